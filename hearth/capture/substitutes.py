"""Methods of PyTorch's modules that look at values while they run, in a form that need not.

`rewrites.py` replaces functions that PyTorch lets us intercept; these are plain Python, so they are
exchanged while a step is traced.  Each computes what the original computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.modules import adaptive, transformer
from torch.nn.modules.batchnorm import _BatchNorm

Tensor = torch.Tensor


def _is_causal(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """What the caller says; PyTorch compares the mask with a causal one, for speed only."""
    return is_causal is True


def _adaptive_log_softmax(module: Any, input_: Tensor, target: Tensor) -> Any:
    """All log-probabilities, of which the target's are taken; PyTorch computes its cluster only.

    A cluster without a target has the gradient 0, where PyTorch has none.
    """
    rows, targets = (input_, target) if target.dim() else (input_[None], target[None])
    chosen = module.log_prob(rows).gather(1, targets[:, None]).squeeze(1)
    loss = (-chosen).mean()
    return adaptive._ASMoutput(chosen if target.dim() else chosen.squeeze(0), loss)


def _cumulative_batch_norm(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """With `momentum=None`, running statistics are means over all batches so far."""

    def batch_norm(module: Any, input_: Tensor) -> Tensor:
        if module.momentum is not None or not (module.training and module.track_running_stats):
            return forward(module, input_)
        module._check_input_dim(input_)
        module.num_batches_tracked.add_(1)
        running = (module.running_mean, module.running_var)
        mean, var = (torch.zeros_like(r) for r in running)
        y = F.batch_norm(input_, mean, var, module.weight, module.bias, True, 1.0, module.eps)
        share = 1.0 / module.num_batches_tracked.to(mean.dtype)
        for tracked, seen in zip(running, (mean, var), strict=True):
            tracked.mul_(1 - share).add_(seen.detach() * share)
        return y

    return batch_norm


@contextmanager
def substituted() -> Iterator[None]:
    """Exchange the methods, for as long as the context lasts."""
    batch_norm = _cumulative_batch_norm(_BatchNorm.forward)
    exchanged: tuple[tuple[Any, str, Any], ...] = (
        (transformer, "_detect_is_causal_mask", _is_causal),
        (nn.AdaptiveLogSoftmaxWithLoss, "forward", _adaptive_log_softmax),
        (_BatchNorm, "forward", batch_norm),
    )
    with ExitStack() as stack:
        for owner, name, ours in exchanged:
            stack.enter_context(mock.patch.object(owner, name, ours))
        yield

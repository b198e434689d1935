"""Rewrites above autograd: functions replaced by simpler ones before PyTorch differentiates them.

The gradient then comes for free, made of operations that we already have.  A rule takes the
function's own arguments and returns a tensor, or `NotImplemented` to leave the call alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from hearth.capture.ctc import ctc_loss

REWRITES: dict[Any, Callable[..., Any]] = {}


def _rewrite(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        REWRITES.update(dict.fromkeys(functions, rule))
        return rule

    return register


_rewrite(F.ctc_loss)(ctc_loss)


@_rewrite(F.gaussian_nll_loss)
def gaussian_nll_loss(
    input: torch.Tensor,  # noqa: A002
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """PyTorch's own, less the look at the variances for a negative one.

    The lower bound on the variance has no gradient of its own.
    """
    variance = torch.full_like(input, var) if isinstance(var, float) else var
    if variance.dim() == input.dim() - 1:
        variance = variance.unsqueeze(-1)
    variance = variance + (variance.clamp(min=eps) - variance).detach()
    loss = 0.5 * (torch.log(variance) + (input - target) ** 2 / variance)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()

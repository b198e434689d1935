"""Connectionist temporal classification, `F.ctc_loss`, as steps over the time of a forward pass.

PyTorch's kernel loops over the lengths of each sample; here every sample takes every step, and
masks say which of them count.  Graves et al., ICML 2006, equations 6 to 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812

Tensor = torch.Tensor
Lengths = Tensor | Sequence[int] | int


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """`log_probs` is [T, N, C] or [T, C]; `targets` [N, S] or concatenated."""
    if log_probs.dim() == 2:
        args = (log_probs[:, None], targets[None], input_lengths, target_lengths)
        loss = ctc_loss(*args, blank, reduction, zero_infinity)
        return loss[0] if reduction == "none" else loss
    count = log_probs.shape[1]
    times, sizes = _lengths(input_lengths, count), _lengths(target_lengths, count)
    padded = _padded(targets, sizes) if targets.dim() == 1 else targets
    loss = _negative_log_likelihood(log_probs, padded.to(torch.int64), times, sizes, blank)
    is_possible = loss < math.inf
    loss = torch.where(is_possible, loss + _normalizer(log_probs, times), loss)
    if zero_infinity:
        loss = torch.where(is_possible, loss, 0.0)
    if reduction == "mean":
        return (loss / sizes.clamp(min=1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss


def _lengths(given: Lengths, count: int) -> Tensor:
    """[N] int64; one number where all are equal, so that it holds for every batch size."""
    if isinstance(given, Tensor):
        return given.reshape(-1).to(torch.int64)
    numbers = [given] if isinstance(given, int) else list(given)
    if len(set(numbers)) == 1:
        return torch.full((count,), numbers[0], dtype=torch.int64)
    return torch.tensor(numbers, dtype=torch.int64)


def _padded(targets: Tensor, sizes: Tensor) -> Tensor:
    """[N, S] of concatenated targets; what lies behind a target's end is never read."""
    if targets.numel() == 0:
        return targets.new_zeros(len(sizes), 0)
    starts = torch.cumsum(sizes, 0) - sizes
    index = starts[:, None] + torch.arange(targets.numel())
    flat = index.clamp(max=targets.numel() - 1).reshape(-1)
    return torch.index_select(targets, 0, flat).reshape(index.shape)


def _negative_log_likelihood(
    log_probs: Tensor, targets: Tensor, times: Tensor, sizes: Tensor, blank: int
) -> Tensor:
    """[N], infinite where no path has the target.  A state is a label or a blank beside one."""
    states = _states(targets, blank)
    position = torch.arange(states.shape[1])
    is_new = (position % 2 == 1) & (states != _moved(states, 2, blank))
    index = states.expand(len(log_probs), *states.shape)
    scores = torch.gather(log_probs, 2, index)
    is_start = (position == 0) | ((position == 1) & (sizes[:, None] > 0))
    alpha = torch.where(is_start, scores[0], -math.inf)
    for time in range(1, len(log_probs)):
        skipped = torch.where(is_new, _moved(alpha, 2, -math.inf), -math.inf)
        paths = torch.stack([alpha, _moved(alpha, 1, -math.inf), skipped])
        alpha = torch.where(time < times[:, None], _log_sum(paths, 0) + scores[time], alpha)
    last = 2 * sizes[:, None]
    is_end = (position == last) | (position == last - 1)
    return -_log_sum(torch.where(is_end, alpha, -math.inf), 1)


def _states(targets: Tensor, blank: int) -> Tensor:
    """[N, S] -> [N, 2 * S + 1]: blanks around and between the labels."""
    blanks = torch.full_like(targets, blank)
    pairs = torch.stack([blanks, targets], 2).reshape(len(targets), 2 * targets.shape[1])
    return F.pad(pairs, (0, 1), value=blank)


def _moved(x: Tensor, by: int, fill: float) -> Tensor:
    """Each state sees the one `by` places before it."""
    return F.pad(x, (by, -by), value=fill) if x.shape[1] > by else torch.full_like(x, fill)


def _log_sum(x: Tensor, axis: int) -> Tensor:
    """`logsumexp` whose gradient is 0, not NaN, where everything is -inf."""
    top = x.detach().amax(axis, keepdim=True)
    top = torch.where(top == -math.inf, 0.0, top)
    total = torch.exp(x - top).sum(axis)
    is_empty = total == 0
    logarithm = torch.log(torch.where(is_empty, 1.0, total)) + top.squeeze(axis)
    return torch.where(is_empty, -math.inf, logarithm)


def _normalizer(log_probs: Tensor, times: Tensor) -> Tensor:
    """Zeros [N] with the gradient of the probabilities' sum.

    PyTorch's gradient contains that of a softmax in front, which adds the probability itself.
    """
    is_counted = torch.arange(len(log_probs))[:, None] < times
    total = torch.where(is_counted[:, :, None], torch.exp(log_probs), 0.0).sum((0, 2))
    return total - total.detach()

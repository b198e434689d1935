"""Counting: how many elements lie in each bin, and repetition by counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Scalar = float | int


def _ends(values: Tensor, low: Scalar, high: Scalar, margin: float) -> tuple[Tensor, Tensor]:
    """The given ends of the bins, or where they are equal those of the values.

    Around one point there is a margin.
    """
    first, last = (torch.full((), float(end), dtype=values.dtype) for end in (low, high))
    if low == high and values.numel():
        first, last = values.amin(), values.amax()
    is_point = first == last
    return torch.where(is_point, first - margin, first), torch.where(is_point, last + margin, last)


@rule(aten.histc.default)
def histc(x: Tensor, bins: int = 100, min: Scalar = 0, max: Scalar = 0) -> Tensor:  # noqa: A002
    """How many elements lie in each of equal bins; the last one has both of its ends."""
    values = x.reshape(-1)
    low, high = _ends(values, min, max, 1.0)
    place = torch.floor((values - low) / (high - low) * bins)
    inside = (values >= low) & (values <= high)
    bin_number = torch.arange(bins, dtype=x.dtype).unsqueeze(-1)
    hit = inside & (torch.clamp(place, max=bins - 1) == bin_number)
    return hit.sum(-1).to(x.dtype)


def _counts(values: Tensor, edges: Tensor, weight: Tensor | None, density: bool) -> Tensor:
    """[bins]: the elements from an edge up to the next, the last edge included."""
    low, high = edges[:-1].unsqueeze(-1), edges[1:].unsqueeze(-1)
    is_last = torch.arange(edges.shape[0] - 1).unsqueeze(-1) == edges.shape[0] - 2
    hit = (values >= low) & ((values < high) | (is_last & (values == high)))
    share = torch.ones_like(values) if weight is None else weight.reshape(-1)
    count = torch.where(hit, share, 0.0).sum(-1)
    return count / (count.sum() * (edges[1:] - edges[:-1])) if density else count


@rule(aten.histogram.bins_tensor)
def histogram(
    x: Tensor, bins: Tensor, *, weight: Tensor | None = None, density: bool = False
) -> tuple[Tensor, Tensor]:
    return _counts(x.reshape(-1), bins, weight, density), bins.clone()


@rule(aten.histogram.bin_ct)
def histogram_of_equal_bins(
    x: Tensor,
    bins: int = 100,
    *,
    range: Sequence[float] | None = None,  # noqa: A002
    weight: Tensor | None = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    values = x.reshape(-1)
    first, last = range or (0.0, 0.0 if x.numel() else 1.0)
    low, high = _ends(values, first, last, 0.5)
    step, number = (high - low) / bins, torch.arange(bins + 1)
    up, down = low + step * number, high - step * (bins - number)  # as torch.linspace
    edges = torch.where(number < (bins + 1) // 2, up, down)
    return _counts(values, edges, weight, density), edges


@rule(aten.repeat_interleave.Tensor)
def repeat_interleave(repeats: Tensor, *, output_size: int | None = None) -> Any:
    """The number of the element that each place repeats; only where `output_size` is given."""
    if output_size is None:
        return NotImplemented
    ends = torch.cumsum(repeats.long(), 0)
    return (ends <= torch.arange(output_size).unsqueeze(-1)).sum(-1)

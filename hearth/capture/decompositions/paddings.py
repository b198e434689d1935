"""Padding by reflection and by replication in one to three dimensions, and its gradient.

Each axis is extended by pieces of itself, so that every element is a view of the input; the
gradient adds the pieces up where they came from.  Negative amounts crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Amounts = Sequence[int]  # before and behind each axis, the last axis first
Extend = Callable[[Tensor, int, int, int], list[Tensor]]


def _axes(x: Tensor, amounts: Amounts) -> list[tuple[int, int, int]]:
    """(axis, before, behind) for every padded axis."""
    pairs = zip(amounts[::2], amounts[1::2], strict=True)
    return [(x.dim() - 1 - i, before, behind) for i, (before, behind) in enumerate(pairs)]


def _cropped(x: Tensor, axis: int, before: int, behind: int) -> Tensor:
    """Without the elements that negative amounts take away."""
    start = max(-before, 0)
    return x.narrow(axis, start, x.shape[axis] - start - max(-behind, 0))


def _reflected(x: Tensor, axis: int, before: int, behind: int) -> Tensor:
    size, before_it, behind_it = x.shape[axis], max(before, 0), max(behind, 0)
    pieces = [
        x.narrow(axis, 1, before_it).flip(axis),
        x,
        x.narrow(axis, size - 1 - behind_it, behind_it).flip(axis),
    ]
    return torch.cat([p for p in pieces if p.shape[axis]], axis)


def _reflected_backward(g: Tensor, axis: int, before: int, behind: int) -> Tensor:
    size = g.shape[axis] - before - behind
    total = g.narrow(axis, before, size)
    if before:
        total = total + _placed(g.narrow(axis, 0, before).flip(axis), axis, 1, size)
    if behind:
        piece = g.narrow(axis, before + size, behind).flip(axis)
        total = total + _placed(piece, axis, size - 1 - behind, size)
    return total


def _replicated(x: Tensor, axis: int, before: int, behind: int) -> Tensor:
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    pieces = [(first, max(before, 0)), (last, max(behind, 0))]
    left, right = (_repeated(piece, axis, times) for piece, times in pieces)
    return torch.cat([p for p in (left, x, right) if p.shape[axis]], axis)


def _replicated_backward(g: Tensor, axis: int, before: int, behind: int) -> Tensor:
    size = g.shape[axis] - before - behind
    total = g.narrow(axis, before, size)
    if before:
        total = total + _placed(g.narrow(axis, 0, before).sum(axis, True), axis, 0, size)
    if behind:
        piece = g.narrow(axis, before + size, behind).sum(axis, True)
        total = total + _placed(piece, axis, size - 1, size)
    return total


def _repeated(x: Tensor, axis: int, times: int) -> Tensor:
    return x.expand([times if a == axis else e for a, e in enumerate(x.shape)])


def _placed(x: Tensor, axis: int, start: int, size: int) -> Tensor:
    """Zeros of extent `size` along the axis, with x from `start` on."""
    behind = [start, size - start - x.shape[axis]]
    return torch.constant_pad_nd(x, [0, 0] * (x.dim() - 1 - axis) + behind)


def _padded(extend: Callable[..., Tensor], x: Tensor, amounts: Amounts) -> Tensor:
    for axis, before, behind in _axes(x, amounts):
        x = _cropped(extend(x, axis, before, behind), axis, before, behind)
    return x.clone()


def _padded_backward(
    collect: Callable[..., Tensor], g: Tensor, x: Tensor, amounts: Amounts
) -> Tensor:
    """What was cropped away gets no gradient."""
    for axis, before, behind in _axes(g, amounts):
        cut = [max(-before, 0), max(-behind, 0)]
        g = torch.constant_pad_nd(g, [0, 0] * (g.dim() - 1 - axis) + cut)
        g = collect(g, axis, max(before, 0), max(behind, 0))
    return g.clone()


for _rank in (1, 2, 3):
    for _name, _extend, _collect in (
        ("reflection_pad", _reflected, _reflected_backward),
        ("replication_pad", _replicated, _replicated_backward),
    ):
        rule(getattr(aten, f"{_name}{_rank}d").default)(partial(_padded, _extend))
        rule(getattr(aten, f"{_name}{_rank}d_backward").default)(
            partial(_padded_backward, _collect)
        )

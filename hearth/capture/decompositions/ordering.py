"""Sorting and what is like it: the order of every row as one operator, then a lookup."""

from __future__ import annotations

from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor
Scalar = float | int | bool

operator(
    "order(Tensor x, int count, bool descending) -> Tensor",
    lambda x, count, descending: x.new_empty((*x.shape[:-1], count), dtype=torch.int64),  # noqa: ARG005
)


def order(x: Tensor, count: int, descending: bool = False) -> Tensor:
    """The positions of the first `count` elements of the last axis in the stable order."""
    x = x.long() if x.dtype == torch.bool else x
    positions: Tensor = torch.ops.hearth.order(x.contiguous(), count, descending)
    return positions


def _ordered(x: Tensor, axis: int, count: int, descending: bool) -> tuple[Tensor, Tensor]:
    if not x.dim():
        values, indices = _ordered(x.reshape(1), 0, count, descending)
        return values.reshape(x.shape if count else (0,)), indices.reshape(
            x.shape if count else (0,)
        )
    rows = x.movedim(axis, -1)
    shape = (*rows.shape[:-1], count)
    if 0 in shape:
        indices = torch.zeros(shape, dtype=torch.int64)
        return x.new_zeros(shape).movedim(-1, axis), indices.movedim(-1, axis)
    indices = order(rows, count, descending)
    return torch.gather(rows, -1, indices).movedim(-1, axis), indices.movedim(-1, axis)


@rule(aten.sort.default)
def sort(x: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return _ordered(x, axis, x.shape[axis] if x.dim() else 1, descending)


@rule(aten.sort.stable)
def sort_stable(
    x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    return sort(x, dim, descending)


@rule(aten.topk.default)
def topk(
    x: Tensor,
    k: int,
    axis: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
) -> tuple[Tensor, Tensor]:
    return _ordered(x, axis, k, largest)


def _element(x: Tensor, axis: int, place: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The element of every row whose rank is `place` (a number, or a tensor without the axis)."""
    if not x.dim():
        return x.clone(), torch.zeros((), dtype=torch.int64)
    rows = x.movedim(axis, -1)
    if isinstance(place, Tensor):
        indices = torch.gather(order(rows, rows.shape[-1]), -1, place.unsqueeze(-1))
    else:
        indices = order(rows, place + 1)[..., place:]
    return _picked(x, axis, indices, keepdim)


def _picked(x: Tensor, axis: int, indices: Tensor, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The elements at one index per row (along the last axis), and the indices."""
    indices = indices.movedim(-1, axis)
    values = torch.gather(x, axis, indices)
    return (values, indices) if keepdim else (values.squeeze(axis), indices.squeeze(axis))


@rule(aten.kthvalue.default)
def kthvalue(x: Tensor, k: int, axis: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _element(x, axis, k - 1, keepdim)


def _without_nan(x: Tensor, axis: int) -> Tensor:
    """The rank of the lower median among the numbers of every row."""
    numbers = (x == x).sum(axis)
    return torch.clamp(numbers - 1, min=0) // 2


@rule(aten.nanmedian.dim)
def nanmedian(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _element(x, axis, _without_nan(x, axis) if x.dim() else 0, keepdim)


@rule(aten.median.dim)
def median(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of two; of a row with NaN the first NaN."""
    if not x.dim():
        return _element(x, axis, 0, keepdim)
    numbers, n = (x == x).sum(axis), x.shape[axis]
    return _element(x, axis, torch.where(numbers < n, numbers, (n - 1) // 2), keepdim)


@rule(aten.median.default)
def median_of_all(x: Tensor) -> Tensor:
    if not x.numel():
        return torch.full((), torch.nan, dtype=x.dtype)
    return median(x.reshape(-1), 0)[0]


@rule(aten.nanmedian.default)
def nanmedian_of_all(x: Tensor) -> Tensor:
    if not x.numel():
        return torch.full((), torch.nan, dtype=x.dtype)
    return nanmedian(x.reshape(-1), 0)[0]


@rule(aten.mode.default)
def mode(x: Tensor, axis: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The smallest of the most frequent values, and its last position."""
    if not x.dim():
        return _element(x, axis, 0, keepdim)
    rows = x.movedim(axis, -1)
    uses = (rows.unsqueeze(-1) == rows.unsqueeze(-2)).sum(-1)
    often, positions = uses == uses.amax(-1, keepdim=True), order(rows, rows.shape[-1])
    first = torch.gather(often, -1, positions).long().argmax(-1, keepdim=True)
    least, number = torch.gather(positions, -1, first), torch.arange(rows.shape[-1])
    same = (rows == torch.gather(rows, -1, least)) | (number == least)
    last = torch.where(same, number, -1).amax(-1, keepdim=True)
    return _picked(x, axis, last, keepdim)


# ------------------------------------------------------------------ places among sorted numbers


def _places(boundaries: Tensor, values: Tensor, right: bool, int32: bool) -> Tensor:
    """How many boundaries are less than a value (`right`: or equal); for NaN all of them."""
    limits = boundaries if boundaries.dim() == 1 else boundaries.unsqueeze(-2)
    wanted = values.unsqueeze(-1)
    passed = ~(limits > wanted) if right else ~(limits >= wanted)
    return passed.sum(-1).to(torch.int32 if int32 else torch.int64)


@rule(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(
    boundaries: Tensor,
    values: Tensor | Scalar,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    if sorter is not None:
        boundaries = torch.gather(boundaries, -1, sorter)
    if not isinstance(values, Tensor):
        values = torch.full((), values, dtype=boundaries.dtype)
    return _places(boundaries, values, right or side == "right", out_int32)


@rule(aten.bucketize.Tensor)
def bucketize(
    values: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    return _places(boundaries, values, right, out_int32)


@rule(aten.isin.Tensor_Tensor, aten.isin.Tensor_Scalar)
def isin(
    x: Tensor, members: Tensor | Scalar, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    if isinstance(members, Tensor):
        found = (x.unsqueeze(-1) == members.reshape(-1)).any(-1)
    else:
        found = x == members
    return ~found if invert else found


@rule(aten.isin.Scalar_Tensor)
def scalar_isin(
    x: Scalar, members: Tensor, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    found = (members == x).any()
    return ~found if invert else found


@rule(aten.nonzero_static.default)
def nonzero_static(x: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The coordinates of the first `size` elements that are not zero, and then `fill_value`."""
    hit = (x != 0).reshape(-1)
    number = torch.cumsum(hit.long(), 0) - 1
    chosen = hit & (number == torch.arange(size).unsqueeze(-1))
    flat = torch.where(chosen, torch.arange(x.numel()), 0).sum(-1)
    found = torch.arange(size) < hit.sum()
    columns = []
    for extent in reversed(x.shape):
        columns.append(torch.where(found, flat % extent, fill_value))
        flat = flat // extent
    return torch.stack(columns[::-1], 1) if columns else torch.zeros((size, 0), dtype=torch.int64)

"""Diagonals, windows and strided views: slices of a flattened tensor, or lookups by fixed indices.

What can be said as a slice is one; the rest computes the flat index of every element it reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.tables import constant

Tensor = torch.Tensor
Ints = Sequence[int]


# ---------------------------------------------------------------------------------------- diagonals


def _last(x: Tensor, first: int, second: int) -> tuple[Tensor, list[int]]:
    """X with these two axes last, and the order that puts them there."""
    first, second = first % x.dim(), second % x.dim()
    order = [a for a in range(x.dim()) if a not in (first, second)] + [first, second]
    return x.permute(order), order


def _diagonal_start(rows: int, columns: int, offset: int) -> tuple[int, int, int]:
    """The first row and column of a diagonal, and its length."""
    row, column = max(-offset, 0), max(offset, 0)
    return row, column, max(min(rows - row, columns - column), 0)


@rule(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Every (columns + 1)-th element of the flattened matrix."""
    x, _ = _last(x, dim1, dim2)
    rows, columns = x.shape[-2:]
    row, column, length = _diagonal_start(rows, columns, offset)
    if length == 0:
        return x.new_zeros((*x.shape[:-2], 0))
    start = row * columns + column
    flat = x.reshape(*x.shape[:-2], rows * columns)
    return flat[..., start : start + (length - 1) * (columns + 1) + 1 : columns + 1]


@rule(aten.diagonal_scatter.default)
def diagonal_scatter(
    x: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    x, order = _last(x, dim1, dim2)
    rows, columns = x.shape[-2:]
    row, _, length = _diagonal_start(rows, columns, offset)
    placed = F.pad(source, (row, rows - row - length)).unsqueeze(-1)
    is_hit = torch.arange(rows).unsqueeze(1) + offset == torch.arange(columns)
    return torch.where(is_hit, placed, x).permute([order.index(a) for a in range(x.dim())])


@rule(aten.trace.default)
def trace(x: Tensor) -> Tensor:
    return diagonal(x).sum()


@rule(aten.tril_indices.default)
def tril_indices(rows: int, columns: int, offset: int = 0, **given: Any) -> Tensor:
    dtype = given.get("dtype") or torch.int64
    return constant(lambda: torch.tril_indices(rows, columns, offset, dtype=dtype)).clone()


@rule(aten.triu_indices.default)
def triu_indices(rows: int, columns: int, offset: int = 0, **given: Any) -> Tensor:
    dtype = given.get("dtype") or torch.int64
    return constant(lambda: torch.triu_indices(rows, columns, offset, dtype=dtype)).clone()


# ---------------------------------------------------------------------------------------- strided


def _owns_its_storage(x: Tensor) -> bool:
    """Whether the elements of x in order are all that its storage holds."""
    held = x.untyped_storage().nbytes() // x.element_size()
    return x.is_contiguous() and x.storage_offset() == 0 and held == x.numel()


def _flat_index(size: Ints, stride: Ints, offset: int) -> Tensor:
    index = torch.full((1,) * len(size), offset, dtype=torch.int64)
    for axis, (extent, step) in enumerate(zip(size, stride, strict=True)):
        shape = [-1 if a == axis else 1 for a in range(len(size))]
        index = index + (torch.arange(extent) * step).reshape(shape)
    return index.reshape(-1)


def _row_major(x: Tensor, size: Ints, stride: Ints, offset: int | None) -> list[int] | None:
    """The axes from slow to fast, where the view shows every element of x once, in its order."""
    order = sorted(range(len(size)), key=lambda axis: -stride[axis])
    step = 1
    for axis in reversed(order):
        if size[axis] != 1 and stride[axis] != step:
            return None
        step *= size[axis]
    return order if not offset and step == x.numel() else None


@rule(aten.as_strided.default, aten.as_strided_copy.default)
def as_strided(x: Tensor, size: Ints, stride: Ints, offset: int | None = None) -> Any:
    if not _owns_its_storage(x):
        return NotImplemented
    order = _row_major(x, size, stride, offset)
    if order is not None:
        back = [order.index(axis) for axis in range(len(size))]
        return x.reshape([size[axis] for axis in order]).permute(back)
    index = _flat_index(size, stride, offset or 0)
    return torch.index_select(x.reshape(-1), 0, index).reshape(size)


@rule(aten.as_strided_scatter.default)
def as_strided_scatter(
    x: Tensor, source: Tensor, size: Ints, stride: Ints, offset: int | None = None
) -> Any:
    """Each element looks up what is written to it; the last of several wins."""
    if not _owns_its_storage(x):
        return NotImplemented
    order = _row_major(x, size, stride, offset)
    if order is not None:
        return source.permute(order).reshape(x.shape)

    def writer() -> Tensor:
        table = torch.full((x.numel(),), -1)
        for position, target in enumerate(_flat_index(size, stride, offset or 0).tolist()):
            table[target] = position
        return table

    table = constant(writer)
    written = torch.index_select(source.reshape(-1), 0, table.clamp(min=0))
    return torch.where(table >= 0, written, x.reshape(-1)).reshape(x.shape)


# ---------------------------------------------------------------------------------------- copies


@rule(aten.view_copy.default)
def view_copy(x: Tensor, size: Ints) -> Tensor:
    return x.reshape(size)


@rule(aten.permute_copy.default)
def permute_copy(x: Tensor, axes: Ints) -> Tensor:
    return x.permute(tuple(axes))


@rule(aten.narrow_copy.default)
def narrow_copy(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    return x.narrow(axis, start, length)


@rule(aten.unbind_copy.int)
def unbind_copy(x: Tensor, axis: int = 0) -> Sequence[Tensor]:
    return x.unbind(axis)


@rule(aten.empty_strided.default, aten.empty_permuted.default)
def empty(size: Ints, _: Ints, **given: Any) -> Tensor:
    """Memory without defined contents: zeros here."""
    return torch.zeros(size, dtype=given.get("dtype"))


@rule(aten.resize.default)
def resize(x: Tensor, size: Ints, memory_format: Any = None) -> Tensor:
    """The first elements in order; what is beyond the last has no defined contents: zeros."""
    count = math.prod(size)
    flat = x.reshape(-1)[:count]
    return F.pad(flat, (0, count - flat.numel())).reshape(size)

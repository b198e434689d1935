"""Writing by several indices or by a mask: one flat index, or one row for every place of the mask.

What one index along one axis writes is in `scatters.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from hearth.capture.decompositions.lookups import MASKS, indexing, wrapped
from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.scatters import (
    along_axis,
    index_add,
    index_copy,
    reduced,
    written,
)

Tensor = torch.Tensor


def _put_where(x: Tensor, mask: Tensor, axis: int, values: Tensor, accumulate: bool) -> Tensor:
    """`x[:, mask] = values`: one row for all hits, or the rows in the order of the hits."""
    behind = x.dim() - axis - mask.dim()
    mask = mask.to(torch.bool)
    if values.dim() > behind:
        at = values.dim() - behind - 1
        if values.shape[at] != 1:
            number = torch.cumsum(mask.reshape(-1).long(), 0) - 1
            values = torch.index_select(values, at, torch.clamp(number, min=0))
        count = mask.shape if values.shape[at] != 1 else [1] * mask.dim()
        values = values.reshape(*values.shape[:at], *count, *values.shape[at + 1 :])
    hit = mask.reshape(*mask.shape, *[1] * behind)
    return torch.where(hit, x + values if accumulate else values, x)


def _places_of(mask: Tensor) -> list[Tensor]:
    """For every element of a mask, its coordinate along each axis."""
    strides = [math.prod(mask.shape[a + 1 :]) for a in range(mask.dim())]
    number = torch.arange(mask.numel())
    return [
        torch.div(number, stride, rounding_mode="floor") % extent
        for stride, extent in zip(strides, mask.shape, strict=True)
    ]


def _put_at_hits(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool
) -> Tensor:
    """`x[mask, numbers] = values`: all elements of the mask write, those without a hit nowhere."""
    at, mask = next((a, i) for a, i in enumerate(indices) if i is not None and i.dtype in MASKS)
    hit = mask.to(torch.bool).reshape(-1)
    number = torch.clamp(torch.cumsum(hit.long(), 0) - 1, min=0)

    def of_hit(given: Tensor | None, axis: int) -> Tensor | None:
        if given is None or given.dim() < -axis or given.shape[axis] == 1:
            return given
        return torch.index_select(given, axis, number)

    before, after = ([of_hit(i, -1) for i in part] for part in (indices[:at], indices[at + 1 :]))
    by = indexing(x, [*before, *_places_of(mask), *after])
    aim = torch.where(hit, by.flat, by.rows)
    spread = of_hit(values, -1 - len(by.behind))
    assert spread is not None
    rows = spread.expand(*by.before, *aim.shape, *by.behind)
    rows = rows.reshape(*by.before, aim.numel(), *by.behind)
    table, aim = by.table(x), along_axis(aim.reshape(-1), by.axis, rows.dim())
    if accumulate:
        return by.untable(reduced(table, by.axis, aim, rows, "sum"), x)
    return by.untable(written(table, by.axis, aim, rows), x)


@rule(aten.index_put.default, aten._unsafe_index_put.default)
def index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Any:
    chosen = [i for i in indices if i is not None]
    masks = [i for i in chosen if i.dtype in MASKS]
    if not chosen or len(masks) > 1 or any(not mask.dim() for mask in masks):
        return NotImplemented
    if masks and len(chosen) > 1:
        return _put_at_hits(x, indices, values, accumulate)
    if masks:
        axis = next(a for a, i in enumerate(indices) if i is not None)
        return _put_where(x, chosen[0], axis, values, accumulate)
    by = indexing(x, indices)
    table = by.table(x)
    rows = values.expand(*by.before, *by.flat.shape, *by.behind)
    operands = (table, by.axis, by.flat.reshape(-1))
    rows = rows.reshape(*by.before, math.prod(by.flat.shape), *by.behind)
    write = index_add if accumulate else index_copy
    return by.untable(write(*operands, rows), x)


@rule(aten.put.default)
def put(x: Tensor, indices: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    write = index_add if accumulate else index_copy
    aim = wrapped(indices.reshape(-1), x.numel())
    return write(x.reshape(-1), 0, aim, source.reshape(-1)).reshape(x.shape)


@rule(aten.masked_scatter.default)
def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(x.shape, mask.shape)  # type: ignore[no-untyped-call]
    x, mask = x.expand(shape), mask.expand(shape)
    if not source.numel() or not x.numel():
        return x.clone()
    number = torch.cumsum(mask.reshape(-1).long(), 0) - 1
    chosen = torch.index_select(source.reshape(-1), 0, torch.clamp(number, min=0))
    return torch.where(mask, chosen.reshape(x.shape), x)


@rule(aten.masked_scatter_backward.default)
def masked_scatter_backward(g: Tensor, mask: Tensor, sizes: Sequence[int]) -> Tensor:
    """The n-th element of the source receives the gradient of the n-th hit of the mask."""
    mask = mask.expand(g.shape).reshape(-1)
    number = torch.where(mask, torch.cumsum(mask.long(), 0) - 1, -1)
    added: Tensor = torch.ops.hearth.index_add(g.reshape(-1), number, math.prod(sizes))
    return added.reshape(list(sizes))

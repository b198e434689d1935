"""Reading by index: any indexing is one flat index and a selection of rows.

The transposes, which write by index, are in `scatters.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor
MASKS = (torch.bool, torch.uint8)

operator(
    "index_add(Tensor g, Tensor indices, int size) -> Tensor",
    lambda g, indices, size: g.new_empty((size, *g.shape[1:])),  # noqa: ARG005
)


def in_range(indices: Tensor, size: int) -> Tensor:
    """The indices, with the promise that they are 0 <= index < size."""
    promised: Tensor = torch.ops.hearth.index_range(indices, size, None)
    return promised


def wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices with the negative ones counted from the end."""
    return torch.where(indices < 0, indices + size, indices)


@dataclass(frozen=True)
class Indexing:
    """`x[indices]` as rows of a table: x permuted by `order`, its axes from `axis` on flattened.

    The table is `[*before, rows, *behind]`, `flat` has the shape of the broadcast indices.
    """

    order: list[int]
    before: list[int]
    rows: int
    behind: list[int]
    flat: Tensor

    @property
    def axis(self) -> int:
        return len(self.before)

    def table(self, x: Tensor) -> Tensor:
        return x.permute(self.order).reshape(*self.before, self.rows, *self.behind)

    def untable(self, table: Tensor, x: Tensor) -> Tensor:
        """The inverse of `table`: the elements in the shape of x."""
        permuted = table.reshape([x.shape[a] for a in self.order])
        return permuted.permute([self.order.index(a) for a in range(x.dim())])


def indexing(x: Tensor, indices: Sequence[Tensor | None]) -> Indexing:
    """How integer `indices` (None for an axis taken whole) choose rows of x.

    Where the indexed axes are not adjacent they go to the front, as in NumPy and PyTorch.
    """
    axes = [a for a, i in enumerate(indices) if i is not None]
    whole = [a for a in range(x.dim()) if a not in axes]
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    first = axes[0] if adjacent else 0
    order = [*whole[:first], *axes, *whole[first:]]
    flat = torch.zeros((), dtype=torch.int64)
    for axis in axes:
        chosen = indices[axis]
        assert chosen is not None
        flat = flat * x.shape[axis] + wrapped(chosen.long(), x.shape[axis])
    return Indexing(
        order,
        [x.shape[a] for a in whole[:first]],
        math.prod(x.shape[a] for a in axes),
        [x.shape[a] for a in whole[first:]],
        flat,
    )


@rule(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(x: Tensor, indices: Sequence[Tensor | None]) -> Any:
    chosen = [i for i in indices if i is not None]
    if any(i.dtype in MASKS for i in chosen):
        return NotImplemented
    if not chosen:
        return x.clone()
    by = indexing(x, indices)
    rows = torch.index_select(by.table(x), by.axis, by.flat.reshape(-1))
    return rows.reshape(*by.before, *by.flat.shape, *by.behind)


@rule(aten.index_select.default)
def index_select(x: Tensor, axis: int, indices: Tensor) -> Any:
    if x.dim() and indices.dim():
        return NotImplemented
    rows = torch.index_select(x.reshape(-1) if not x.dim() else x, axis, indices.reshape(-1))
    return rows if x.dim() else rows.reshape(())


@rule(aten.gather.default)
def gather(x: Tensor, axis: int, indices: Tensor, sparse_grad: bool = False) -> Any:
    if not indices.numel():
        return x.new_zeros(indices.shape)
    if x.dim() and indices.dim():
        return NotImplemented
    return torch.gather(x.reshape(-1), 0, indices.reshape(-1)).reshape(indices.shape)


@rule(aten.take.default)
def take(x: Tensor, indices: Tensor) -> Tensor:
    rows = torch.index_select(x.reshape(-1), 0, wrapped(indices, x.numel()).reshape(-1))
    return rows.reshape(indices.shape)

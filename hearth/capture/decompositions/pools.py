"""Pools over fixed windows, adaptive pools, and their gradients.

An adaptive pool whose windows lie side by side is an ordinary one.  Otherwise an average is a
matrix per axis, and a maximum looks its windows up by tables that are known now.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from hearth.capture.decompositions.registry import aten, operator, rule
from hearth.capture.decompositions.tables import constant, times_matrix

Tensor = torch.Tensor
Ints = Sequence[int]

operator(
    "max_pool_grad(Tensor g, Tensor indices, SymInt[] x_shape, int[] kernel, int[] stride, "
    "int[] padding, int[] dilation) -> Tensor",
    lambda g, indices, x_shape, *_: g.new_empty(x_shape),  # noqa: ARG005
)
operator(
    "avg_pool_grad(Tensor g, SymInt[] x_shape, int[] kernel, int[] stride, int[] padding, "
    "bool ceil_mode, bool count_include_pad, int? divisor) -> Tensor",
    lambda g, x_shape, *_: g.new_empty(x_shape),
)

# ------------------------------------------------------------------------------ fixed windows


def _per_axis(rank: int, *arguments: Ints) -> list[list[int]]:
    """PyTorch lets one number stand for all axes."""
    return [list(a) * rank if len(a) == 1 else list(a) for a in arguments]


def _max_pool_backward(
    rank: int, g: Tensor, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
    indices: Tensor,
) -> Tensor:  # fmt: skip
    geometry = _per_axis(rank, kernel, stride or kernel, padding, dilation)
    made: Tensor = torch.ops.hearth.max_pool_grad(g, indices, x.shape, *geometry)
    return made


@rule(aten.max_pool2d_with_indices_backward.default)
def max_pool2d_backward(
    g: Tensor, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
    ceil_mode: bool, indices: Tensor,
) -> Tensor:  # fmt: skip
    return _max_pool_backward(2, g, x, kernel, stride, padding, dilation, indices)


@rule(aten.max_pool3d_with_indices_backward.default)
def max_pool3d_backward(
    g: Tensor, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
    ceil_mode: bool, indices: Tensor,
) -> Tensor:  # fmt: skip
    return _max_pool_backward(3, g, x, kernel, stride, padding, dilation, indices)


def _block_mean(x: Tensor, kernel: Ints) -> Tensor:
    """The mean of blocks that lie side by side."""
    lead, shape = x.dim() - len(kernel), list(x.shape)
    for axis, size in enumerate(kernel):
        shape[lead + 2 * axis : lead + 2 * axis + 1] = [x.shape[lead + axis] // size, size]
    blocks = x.reshape(shape)
    return blocks.sum([lead + 2 * axis + 1 for axis in range(len(kernel))]) / math.prod(kernel)


def _avg_pool(
    rank: int, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, divisor: int | None
) -> Any:
    kernel, stride, padding = _per_axis(rank, kernel, stride or kernel, padding)
    tiled = kernel == stride and not any(padding) and not divisor and x.is_floating_point()
    whole = all(e % k == 0 for e, k in zip(x.shape[-rank:], kernel, strict=True))
    return _block_mean(x, kernel) if tiled and whole else NotImplemented


@rule(aten.avg_pool2d.default)
def avg_pool2d(
    x: Tensor, kernel: Ints, stride: Ints = (), padding: Ints = (0,), ceil_mode: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Any:  # fmt: skip
    return _avg_pool(2, x, kernel, stride, padding, divisor)


@rule(aten.avg_pool3d.default)
def avg_pool3d(
    x: Tensor, kernel: Ints, stride: Ints = (), padding: Ints = (0,), ceil_mode: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Any:  # fmt: skip
    return _avg_pool(3, x, kernel, stride, padding, divisor)


@rule(aten.avg_pool2d_backward.default)
def avg_pool2d_backward(
    g: Tensor, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, *options: Any
) -> Any:
    """`options`: ceil_mode, count_include_pad, divisor."""
    geometry = _per_axis(2, kernel, stride or kernel, padding)
    return torch.ops.hearth.avg_pool_grad(g, x.shape, *geometry, *options)


@rule(aten.avg_pool3d_backward.default)
def avg_pool3d_backward(
    g: Tensor, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, *options: Any
) -> Any:
    geometry = _per_axis(3, kernel, stride or kernel, padding)
    return torch.ops.hearth.avg_pool_grad(g, x.shape, *geometry, *options)


# ---------------------------------------------------------------------------- adaptive windows


def _bounds(size: int, out: int) -> list[tuple[int, int]]:
    """Window i reaches from floor(i*size/out) up to ceil((i+1)*size/out)."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _averaging_matrix(size: int, out: int) -> Tensor:
    matrix = torch.zeros(out, size, dtype=torch.float64)
    for row, (start, stop) in enumerate(_bounds(size, out)):
        matrix[row, start:stop] = 1.0 / (stop - start)
    return matrix


def _kernel(x: Tensor, out: Ints) -> list[int] | None:
    """The windows' extents, where they lie side by side."""
    sizes = x.shape[x.dim() - len(out) :]
    if any(o == 0 or e % o for e, o in zip(sizes, out, strict=True)):
        return None
    return [e // o for e, o in zip(sizes, out, strict=True)]


@rule(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool(x: Tensor, out: Ints) -> Tensor:
    kernel = _kernel(x, out)
    if kernel is not None:
        return x.clone() if math.prod(kernel) == 1 else _block_mean(x, kernel)
    lead = x.dim() - len(out)
    for axis, extent in enumerate(out, lead):
        table = constant(partial(_averaging_matrix, x.shape[axis], extent))
        x = times_matrix(x, axis, table)
    return x


def _adaptive_avg_pool_backward(rank: int, g: Tensor, x: Tensor) -> Tensor:
    lead = x.dim() - rank
    kernel = _kernel(x, g.shape[lead:])
    if kernel is not None:
        thin, wide = list(g.shape[:lead]), list(g.shape[:lead])
        for extent, size in zip(g.shape[lead:], kernel, strict=True):
            thin, wide = [*thin, extent, 1], [*wide, extent, size]
        return (g / math.prod(kernel)).reshape(thin).expand(wide).reshape(x.shape)
    for axis in range(lead, x.dim()):
        table = constant(partial(_averaging_matrix, x.shape[axis], g.shape[axis]))
        g = times_matrix(g, axis, table, transposed=True)
    return g


@rule(aten._adaptive_avg_pool2d_backward.default)
def adaptive_avg_pool2d_backward(g: Tensor, x: Tensor) -> Tensor:
    return _adaptive_avg_pool_backward(2, g, x)


@rule(aten._adaptive_avg_pool3d_backward.default)
def adaptive_avg_pool3d_backward(g: Tensor, x: Tensor) -> Tensor:
    return _adaptive_avg_pool_backward(3, g, x)


class Windows(NamedTuple):
    """The windows along one axis of an adaptive pool, as tables.

    `places` [out, taps]: the elements of window i; a short window repeats its last one.
    `owners` [size, taps]: the windows that see an element, of which `is_owner` are not padding.
    """

    places: list[list[int]]
    owners: list[list[int]]
    is_owner: list[list[bool]]


def _windows(size: int, out: int) -> Windows:
    bounds = _bounds(size, out)
    seen_by = [[i for i, (a, b) in enumerate(bounds) if a <= s < b] for s in range(size)]
    taps = max((b - a for a, b in bounds), default=1)
    most = max((len(i) for i in seen_by), default=1)
    return Windows(
        [[min(a + k, b - 1) for k in range(taps)] for a, b in bounds],
        [i + i[-1:] * (most - len(i)) for i in seen_by],
        [[k < len(i) for k in range(most)] for i in seen_by],
    )


def _looked_up(x: Tensor, lead: int, tables: Sequence[list[list[int]]]) -> Tensor:
    """[*lead, *size] -> [*lead, *rows, taps]: the elements at the places of every table."""
    rank = len(tables)
    for i, table in enumerate(tables):
        axis, (rows_of, taps_of) = lead + 2 * i, (len(table), len(table[0]))
        flat = constant(partial(torch.tensor, [place for row in table for place in row]))
        found = torch.index_select(x, axis, flat)
        x = found.reshape(*x.shape[:axis], rows_of, taps_of, *x.shape[axis + 1 :])
    rows, taps = range(lead, lead + 2 * rank, 2), range(lead + 1, lead + 2 * rank, 2)
    return x.permute(*range(lead), *rows, *taps).flatten(lead + rank)


def _along(values: Sequence[int], axis: int, rank: int) -> Tensor:
    """A table of one axis, shaped to be broadcast over `rank` axes."""
    shape = [len(values) if a == axis else 1 for a in range(rank)]
    return constant(lambda: torch.tensor(values).reshape(shape))


@rule(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def adaptive_max_pool(x: Tensor, out: Ints) -> Any:
    """Values and indices; of equal values the first in row-major order, as in PyTorch."""
    rank, lead = len(out), x.dim() - len(out)
    kernel, sizes = _kernel(x, out), x.shape[lead:]
    if kernel is not None:
        pool = aten.max_pool2d_with_indices if rank == 2 else aten.max_pool3d_with_indices
        return pool(x, kernel, kernel)
    windows = [_windows(e, o) for e, o in zip(sizes, out, strict=True)]
    values, tap = _looked_up(x, lead, [w.places for w in windows]).max(-1)
    index, later = torch.zeros_like(tap), [len(w.places[0]) for w in windows]
    for axis, (size, window) in enumerate(zip(sizes, windows, strict=True)):
        within = math.prod(later[axis + 1 :])
        place = tap // within + _along([row[0] for row in window.places], axis, rank)
        index, tap = index * size + place, tap % within
    return values, index


@rule(aten.adaptive_max_pool2d_backward.default)
def adaptive_max_pool2d_backward(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return _adaptive_max_pool_backward(2, g, x, indices)


@rule(aten.adaptive_max_pool3d_backward.default)
def adaptive_max_pool3d_backward(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return _adaptive_max_pool_backward(3, g, x, indices)


def _adaptive_max_pool_backward(rank: int, g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    """Each element takes the gradient of those windows that chose it."""
    lead = x.dim() - rank
    kernel, sizes = _kernel(x, g.shape[lead:]), x.shape[lead:]
    if kernel is not None:
        geometry = (kernel, kernel, [0] * rank, [1] * rank)
        return _max_pool_backward(rank, g, x, *geometry, indices)
    windows = [_windows(e, o) for e, o in zip(sizes, g.shape[lead:], strict=True)]
    owners = [w.owners for w in windows]
    own = torch.arange(math.prod(sizes)).reshape(*sizes, 1)
    chosen = _looked_up(indices, lead, owners) == own
    chosen = chosen & constant(lambda: _owner_table([w.is_owner for w in windows]))
    return torch.where(chosen, _looked_up(g, lead, owners), 0.0).sum(-1)


def _owner_table(tables: Sequence[list[list[bool]]]) -> Tensor:
    """[*size, taps]: whether every axis has a window there."""
    total = torch.ones((), dtype=torch.bool)
    for table in tables:
        total = total[..., None, None] & torch.tensor(table)
    rank = len(tables)
    return total.permute(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)).flatten(rank)

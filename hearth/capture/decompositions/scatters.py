"""Writing by index, without writes that race: every element finds the sources that aim at it.

An element of the result reduces over the sources whose index is its own position; where one wins,
it is the last, as in PyTorch on a CPU.  This costs positions times sources, all of it parallel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from hearth.capture.decompositions.lookups import in_range, wrapped
from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Scalar = float | int | bool


def largest(dtype: torch.dtype) -> Scalar:
    """No value is larger; integers have 32 bits on the device."""
    return torch.inf if dtype.is_floating_point else min(torch.iinfo(dtype).max, 2**31 - 1)


def smallest(dtype: torch.dtype) -> Scalar:
    return -torch.inf if dtype.is_floating_point else max(torch.iinfo(dtype).min, -(2**31))


def _scalar(x: Tensor, value: Scalar) -> Tensor:
    """A number in the type of x, as PyTorch converts it."""
    return torch.full((), value, dtype=x.dtype)


def _hits(indices: Tensor, axis: int, size: int) -> Tensor:
    """Whether an index (along `axis`) meets a position (along a new axis behind it)."""
    shape = [1] * (indices.dim() + 1)
    shape[axis + 1] = size
    return indices.unsqueeze(axis + 1) == torch.arange(size).reshape(shape)


def along_axis(indices: Tensor, axis: int, rank: int) -> Tensor:
    """A vector of indices as a tensor that broadcasts along every axis but one."""
    return indices.reshape([-1 if a == axis else 1 for a in range(rank)])


def written(x: Tensor, axis: int, indices: Tensor, source: Tensor | Scalar) -> Tensor:
    """What x is with the last source that aims at an element; indices broadcast to the source."""
    if indices.shape[axis] == 0:
        return x
    hits = _hits(indices, axis, x.shape[axis])
    if not isinstance(source, Tensor):
        return torch.where(hits.any(axis), _scalar(x, source), x)
    number = along_axis(torch.arange(indices.shape[axis]), axis, indices.dim())
    last = torch.where(hits, number.unsqueeze(axis + 1), -1).amax(axis)
    if source.shape[axis] == 1:
        return torch.where(last >= 0, source, x)
    shape = [x.shape[a] if a == axis else e for a, e in enumerate(source.shape)]
    chosen = torch.gather(source, axis, torch.clamp(last, min=0).expand(shape))
    return torch.where(last >= 0, chosen, x)


_REDUCTIONS: dict[str, Any] = {
    "sum": (lambda _: 0, lambda y, axis: y.sum(axis, dtype=y.dtype), torch.add),
    "prod": (lambda _: 1, lambda y, axis: y.prod(axis, dtype=y.dtype), torch.mul),
    "amax": (smallest, lambda y, axis: y.amax(axis), torch.maximum),
    "amin": (largest, lambda y, axis: y.amin(axis), torch.minimum),
}
_NAMES = {"add": "sum", "multiply": "prod", "mean": "sum"}


def reduced(
    x: Tensor, axis: int, indices: Tensor, source: Tensor, reduce: str, include_self: bool = True
) -> Tensor:
    """Every element of x with all sources that aim at it; indices broadcast to the source."""
    if x.dtype == torch.bool:
        numbers = (x.long(), axis, indices, source.long())
        return reduced(*numbers, reduce, include_self).to(torch.bool)
    if source.shape[axis] == 0:
        return x
    identity, fold, combine = _REDUCTIONS[_NAMES.get(reduce, reduce)]
    hits = _hits(indices, axis, x.shape[axis])
    aimed = torch.where(hits, source.unsqueeze(axis + 1), _scalar(x, identity(x.dtype)))
    total = fold(aimed, axis)
    result = combine(x, total) if include_self else torch.where(hits.any(axis), total, x)
    if reduce != "mean":
        return result
    count = torch.clamp(hits.sum(axis) + int(include_self), min=1)
    mode = None if x.dtype.is_floating_point else "floor"
    return torch.div(result, count.to(x.dtype), rounding_mode=mode)


def _corner(x: Tensor, shape: Sequence[int], axis: int | None = None) -> Tensor:
    """The elements of x whose coordinates lie in a shape, along `axis` all of them."""
    for other, extent in enumerate(shape):
        if other != axis and extent != x.shape[other]:
            x = x.narrow(other, 0, extent)
    return x


def _surrounded(corner: Tensor, x: Tensor) -> Tensor:
    """What x is with its first elements along every axis replaced by the corner."""
    inside, missing = torch.ones((), dtype=torch.bool), []
    for axis, (extent, whole) in enumerate(zip(corner.shape, x.shape, strict=True)):
        missing += [whole - extent, 0]
        if extent != whole:
            inside = inside & along_axis(torch.arange(whole) < extent, axis, x.dim())
    if not any(missing):
        return corner
    return torch.where(inside, F.pad(corner, missing[::-1]), x)


def _scattered(x: Tensor, axis: int, indices: Tensor, source: Any, write: Any) -> Tensor:
    """`write` where x and the source may reach beyond the indices, and may have no axes."""
    if not indices.numel():
        return x.clone()
    if not x.dim():
        source = source.reshape(-1) if isinstance(source, Tensor) else source
        return _scattered(x.reshape(1), 0, indices.reshape(-1), source, write).reshape(())
    axis %= x.dim()
    indices = in_range(indices if indices.dim() else indices.reshape(1), x.shape[axis])
    if isinstance(source, Tensor):
        source = source if source.dim() else source.reshape(1)
        source = _corner(source, indices.shape)
    corner = _corner(x, indices.shape, axis)
    return _surrounded(write(corner, axis, indices, source), x)


@rule(aten.scatter.src, aten.scatter.value)
def scatter(x: Tensor, axis: int, indices: Tensor, source: Tensor | Scalar) -> Tensor:
    return _scattered(x, axis, indices, source, written)


@rule(aten.scatter_add.default)
def scatter_add(x: Tensor, axis: int, indices: Tensor, source: Tensor) -> Tensor:
    return scatter_reduce(x, axis, indices, source, "sum")


@rule(aten.scatter_reduce.two)
def scatter_reduce(
    x: Tensor, axis: int, indices: Tensor, source: Tensor, reduce: str, include_self: bool = True
) -> Tensor:
    def write(x: Tensor, axis: int, indices: Tensor, source: Tensor) -> Tensor:
        return reduced(x, axis, indices, source, reduce, include_self)

    return _scattered(x, axis, indices, source, write)


@rule(aten.scatter.reduce, aten.scatter.value_reduce)
def scatter_with(
    x: Tensor, axis: int, indices: Tensor, source: Tensor | Scalar, *, reduce: str
) -> Tensor:
    if not isinstance(source, Tensor):
        source = torch.full(indices.shape, source, dtype=x.dtype)
    return scatter_reduce(x, axis, indices, source, reduce)


@rule(aten.index_add.default)
def index_add(
    x: Tensor, axis: int, indices: Tensor, source: Tensor, *, alpha: Scalar = 1
) -> Tensor:
    if not x.dim():
        return index_add(x.reshape(1), 0, indices, source.reshape(1), alpha=alpha).reshape(())
    source = source if alpha == 1 else source * alpha
    if x.dtype == torch.bool:
        return index_add(x.long(), axis, indices, source.long()).to(torch.bool)
    rows = source.movedim(axis, 0)
    added: Tensor = torch.ops.hearth.index_add(rows, indices.reshape(-1), x.shape[axis])
    return x + added.movedim(0, axis)


@rule(aten.index_copy.default)
def index_copy(x: Tensor, axis: int, indices: Tensor, source: Tensor) -> Tensor:
    if not x.dim():
        return index_copy(x.reshape(1), 0, indices, source.reshape(1)).reshape(())
    return written(x, axis % x.dim(), along_axis(indices, axis % x.dim(), x.dim()), source)


@rule(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(x: Tensor, axis: int, indices: Tensor, value: Tensor | Scalar) -> Tensor:
    if not x.dim():
        return index_fill(x.reshape(1), 0, indices, value).reshape(())
    axis = axis % x.dim()
    value = value.to(x.dtype) if isinstance(value, Tensor) else _scalar(x, value)
    indices = wrapped(indices.reshape(-1), x.shape[axis])
    hit = _hits(indices, 0, x.shape[axis]).any(0)
    return torch.where(along_axis(hit, axis, x.dim()), value, x)


@rule(aten.index_reduce.default)
def index_reduce(
    x: Tensor, axis: int, indices: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    if not x.dim():
        one = (x.reshape(1), 0, indices.reshape(1), source.reshape(1), reduce)
        return index_reduce(*one, include_self=include_self).reshape(())
    axis = axis % x.dim()
    aim = along_axis(indices, axis, x.dim())
    return reduced(x, axis, aim, source, reduce, include_self)


# ------------------------------------------------------------------ scattering at places known here


@rule(aten.slice_scatter.default)
def slice_scatter(
    x: Tensor,
    source: Tensor,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Any:
    if step == 1:
        return NotImplemented
    chosen = range(x.shape[axis])[slice(start, end, step)]
    if not chosen:
        return x.clone()
    number = torch.arange(x.shape[axis]) - chosen.start
    inside = (number >= 0) & (number % step == 0) & (number < len(chosen) * step)
    place = torch.clamp(torch.div(number, step, rounding_mode="floor"), 0, len(chosen) - 1)
    spread = torch.index_select(source, axis, place)
    return torch.where(along_axis(inside, axis % x.dim(), x.dim()), spread, x)

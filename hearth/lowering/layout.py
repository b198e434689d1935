"""Views, and tensors made from nothing: they say where an element comes from."""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dim import Dim
from hearth.ir.dtype import INT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Arg, Coord, Expr, apply, cast
from hearth.lowering.rules import Operand, device_dtype, lowers, number

Extent = Dim | int


@lowers("aten.reshape.default")
def _reshape(site: AtenNode, x: Node, _: Operand) -> Node:
    return build.reshape(x, site.shape, site.origin)


@lowers("hearth.recompute")
def _recompute(_: AtenNode, x: Node, region: int) -> Node:
    return build.recompute(x, region)


@lowers("aten.permute.default")
def _permute(site: AtenNode, x: Node, axes: tuple[int, ...]) -> Node:
    return build.permute(x, axes, site.origin)


@lowers("aten.expand.default")
def _expand(site: AtenNode, x: Node, _: Operand) -> Node:
    return build.expand(x, site.shape, site.origin)


@lowers("aten.slice.Tensor")
def _slice(site: AtenNode, x: Node, axis: int, start: Extent, _: Extent, step: int) -> Node:
    starts: list[Extent] = [0] * len(x.shape)
    steps = [1] * len(x.shape)
    starts[axis], steps[axis] = start, step
    return build.slice_(x, starts, site.shape, steps, site.origin)


@lowers("aten.flip.default")
def _flip(site: AtenNode, x: Node, axes: tuple[int, ...]) -> Node:
    starts = [e - 1 if a in axes else Dim.of(0) for a, e in enumerate(x.shape)]
    steps = [-1 if a in axes else 1 for a in range(len(x.shape))]
    return build.slice_(x, starts, x.shape, steps, site.origin)


@lowers("aten.constant_pad_nd.default")
def _pad(site: AtenNode, x: Node, amounts: tuple[tuple[Extent, Extent], ...],
         value: float) -> Node:  # fmt: skip
    low, high = [before for before, _ in amounts], [after for _, after in amounts]
    return build.pad(x, low, high, value, site.origin)


@lowers("aten.cat.default")
def _cat(site: AtenNode, parts: tuple[Node, ...], axis: int) -> Node:
    """Each part padded to the whole, and choices by the coordinate: no copy, any part fuses."""
    total, coord = site.shape[axis], Coord(INT32, axis)
    whole, start = _placed(parts[0], axis, Dim.of(0), total, site.origin), parts[0].shape[axis]
    for part in parts[1:]:
        # One choice per node, so that the schedule may store a part of a long concatenation.
        is_before = apply("lt", coord, number(start, INT32))
        choice = apply("where", is_before, Arg(part.dtype, 0), Arg(part.dtype, 1))
        placed = _placed(part, axis, start, total, site.origin)
        whole = build.pointwise(choice, whole, placed, shape=site.shape, origin=site.origin)
        start = start + part.shape[axis]
    return whole


def _placed(x: Node, axis: int, start: Dim, total: Dim, origin: str) -> Node:
    low, high = [Dim()] * len(x.shape), [Dim()] * len(x.shape)
    low[axis], high[axis] = start, total - start - x.shape[axis]
    return build.pad(x, low, high, 0, origin)


@lowers("aten.full.default")
def _full(site: AtenNode, _: Operand, value: Operand) -> Node:
    expr = number(value, device_dtype(site), site.origin)
    return build.pointwise(expr, shape=site.shape, origin=site.origin)


@lowers("hearth.iota")
def _iota(site: AtenNode, _: Operand, start: Operand, step: Operand) -> Node:
    dtype = device_dtype(site)
    expr: Expr = cast(Coord(INT32, 0), dtype)
    if step != 1:
        expr = apply("mul", expr, number(step, dtype, site.origin))
    if start != 0:
        expr = apply("add", expr, number(start, dtype, site.origin))
    return build.pointwise(expr, shape=site.shape, origin=site.origin)

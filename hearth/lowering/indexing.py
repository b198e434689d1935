"""Lookups by an index tensor and their transposes."""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dim import Dim, product
from hearth.ir.dtype import INT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Arg, Coord, apply, cast, const
from hearth.lowering.rules import Operand, lowers, number


@lowers("aten.index_select.default")
def _index_select(site: AtenNode, x: Node, axis: int, indices: Node) -> Node:
    axis %= len(x.shape)
    index = _clamped(indices, x.shape[axis], site.origin)
    ends = [site.shape[a] if a == axis else Dim.of(1) for a in range(len(x.shape))]
    along = build.expand(build.reshape(index, ends, site.origin), site.shape, site.origin)
    return build.gather(x, along, axis, site.origin)


@lowers("aten.gather.default")
def _gather(site: AtenNode, x: Node, axis: int, indices: Node) -> Node:
    return build.gather(x, _clamped(indices, x.shape[axis], site.origin), axis, site.origin)


def _clamped(indices: Node, extent: Dim, origin: str) -> Node:
    """Indices inside the table: the runtime checks what it can, memory is safe in any case."""
    index = cast(Arg(indices.dtype, 0), INT32)
    expr = apply("minimum", apply("maximum", index, 0), number(extent - 1, INT32))
    return build.pointwise(expr, indices, origin=origin)


@lowers("hearth.index_add")
def _index_add(site: AtenNode, g: Node, indices: Node, _: Operand) -> Node:
    """Row r is the sum of the rows of g whose index is r: no scatter, hence no race.

    [size, N, rest]: g where the index equals the row, summed over N.
    """
    rows, count = site.shape[0], g.shape[0]
    rest = product(g.shape[1:])
    source = build.reshape(g, (1, count, rest), site.origin)
    index = build.reshape(indices, (1, count, 1), site.origin)
    is_here = apply("eq", cast(Arg(indices.dtype, 1), INT32), Coord(INT32, 0))
    chosen = apply("where", is_here, Arg(g.dtype, 0), const(0, g.dtype))
    spread = build.pointwise(chosen, source, index, shape=(rows, count, rest), origin=site.origin)
    total = build.reduce("sum", spread, (1,), site.origin)
    return build.reshape(total, site.shape, site.origin)

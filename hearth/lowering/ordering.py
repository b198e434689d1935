"""The stable order of rows: short ones by counting, long ones by a bitonic network.

Counting compares every element with every other: its rank is the number of those before it.  The
network (Batcher, 1968) has log2(n)**2 / 2 stages; a stage exchanges positions, and the values stay
where they are.  A row whose length depends on the batch size is counted.
"""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dim import Dim
from hearth.ir.dtype import BOOL, FLOAT32, INT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Apply, Arg, Coord, Expr, apply, cast, const
from hearth.lowering.rules import Operand, lowers, number

LONGEST_COUNTED = 1024  # comparisons are quicker than the stages of a network up to here
ONE = Dim.of(1)


@lowers("hearth.order")
def _order(site: AtenNode, x: Node, _: Operand, descending: bool) -> Node:
    n = x.shape[-1]
    if n.is_static and n.static > LONGEST_COUNTED:
        chosen = _network(x, n.static, descending, site.origin)
        return build.slice_(chosen, [0] * len(x.shape), site.shape, origin=site.origin)
    return _counted(x, site, descending)


def _precedes(a: Expr, b: Expr, at_a: Expr, at_b: Expr, descending: bool) -> Expr:
    """Whether a comes before b: NaN counts as the largest, and equals keep their order."""
    first, second = (b, a) if descending else (a, b)
    less, more = _less(first, second), _less(second, first)
    earlier = Apply(BOOL, "and", (apply("lt", at_a, at_b), apply("not", more)))
    return Apply(BOOL, "or", (less, earlier))


def _less(a: Expr, b: Expr) -> Expr:
    less = apply("lt", a, b)
    if a.dtype != FLOAT32:
        return less
    only_b = Apply(BOOL, "and", (apply("is_nan", b), apply("eq", a, a)))
    return Apply(BOOL, "or", (less, only_b))


def _counted(x: Node, site: AtenNode, descending: bool) -> Node:
    *lead, n = x.shape
    rank, origin = len(x.shape), site.origin
    other = build.reshape(x, (*lead, n, ONE), origin)
    own = build.reshape(x, (*lead, ONE, n), origin)
    at_other, at_own = Coord(INT32, rank - 1), Coord(INT32, rank)
    before = _precedes(Arg(x.dtype, 0), Arg(x.dtype, 1), at_other, at_own, descending)
    beaten = build.pointwise(cast(before, INT32), other, own, shape=(*lead, n, n), origin=origin)
    ranks = build.reduce("sum", beaten, (rank - 1,), origin)
    place = build.reshape(ranks, (*lead, n, ONE), origin)
    count = site.shape[-1]
    is_here = apply("eq", Arg(INT32, 0), at_own)
    found = apply("where", is_here, at_other, const(0, INT32))
    spread = build.pointwise(found, place, shape=(*lead, n, count), origin=origin)
    return build.reshape(build.reduce("sum", spread, (rank - 1,), origin), site.shape, origin)


def _network(x: Node, n: int, descending: bool, origin: str) -> Node:
    """[..., size]: all positions in order, those from n on at the end; size is a power of two."""
    *lead, _ = x.shape
    bits = (n - 1).bit_length()
    order = build.pointwise(Coord(INT32, len(lead)), shape=(*lead, 1 << bits), origin=origin)
    for block in range(1, bits + 1):
        for distance in reversed(range(block)):
            order = _exchanged(x, order, block, distance, descending, origin)
    return order


def _exchanged(
    x: Node, order: Node, block: int, distance: int, descending: bool, origin: str
) -> Node:
    """One stage: pairs at 2**distance, blocks of 2**block, every other block the other way."""
    *lead, size = order.shape
    rank = len(lead)
    pairs: list[Dim | int] = [*lead, size.static >> (distance + 1), 2, 1 << distance]
    other = build.slice_(
        build.reshape(order, pairs, origin),
        [*[0] * (rank + 1), 1, 0], pairs, [*[1] * (rank + 1), -1, 1], origin,
    )  # fmt: skip
    other = build.reshape(other, order.shape, origin)
    values = [_values(x, positions, origin) for positions in (order, other)]
    own, partner = Arg(INT32, 2), Arg(INT32, 3)
    precedes = _precedes(Arg(x.dtype, 0), Arg(x.dtype, 1), own, partner, descending)
    is_outside = apply("ge", apply("maximum", own, partner), number(x.shape[-1], INT32))
    precedes = apply("where", is_outside, apply("lt", own, partner), precedes)
    place = Coord(INT32, rank)
    is_second, is_backward = _bit(place, distance), _bit(place, block)
    wants_first = apply("eq", is_second, is_backward)
    keeps = apply("eq", cast(precedes, INT32), cast(wants_first, INT32))
    kept = apply("where", keeps, own, partner)
    return build.pointwise(kept, *values, order, other, origin=origin)


def _bit(value: Expr, position: int) -> Expr:
    return apply("bit_and", apply("shift_right", value, position), 1)


def _values(x: Node, positions: Node, origin: str) -> Node:
    last = number(x.shape[-1] - 1, INT32)
    inside = build.pointwise(apply("minimum", Arg(INT32, 0), last), positions, origin=origin)
    return build.gather(x, inside, len(x.shape) - 1, origin)

"""Running sums and the like: every element folds those before it, in two levels where many.

A row of n elements is cut into blocks of about sqrt(n): a scan within the blocks, one over the
totals of the blocks, and both combined.  Nothing is sequential, and the work is n * sqrt(n).  A
row whose length depends on the batch size is one block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dim import Dim
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Arg, Coord, Expr, Scalar, apply, const
from hearth.lowering.rules import lowers

LONGEST_BLOCK = 64  # a row of so many elements is one block
ONE = Dim.of(1)


@dataclass(frozen=True)
class Scan:
    """An associative function of two numbers, and the number that changes nothing."""

    combine: str
    of_floats: float
    of_integers: int

    def identity(self, dtype: str) -> Scalar:
        return self.of_floats if dtype == FLOAT32 else self.of_integers


SCANS = {
    "sum": Scan("add", 0.0, 0),
    "prod": Scan("mul", 1.0, 1),
    "max": Scan("maximum", -math.inf, -(2**31)),
    "min": Scan("minimum", math.inf, 2**31 - 1),
    "logsumexp": Scan("logaddexp", -math.inf, 0),
}


@lowers("hearth.scan")
def _scan(site: AtenNode, x: Node, kind: str) -> Node:
    return running(x, kind, site.origin)


def running(x: Node, kind: str, origin: str) -> Node:
    """Element i of a row becomes the fold of the elements 0 ... i."""
    *lead, n = x.shape
    if n.is_static and n.static > LONGEST_BLOCK:
        return _in_blocks(x, kind, math.isqrt(n.static - 1) + 1, origin)
    rank = len(x.shape)
    source = build.reshape(x, (*lead, ONE, n), origin)
    is_before = apply("le", Coord(INT32, rank), Coord(INT32, rank - 1))
    nothing = const(SCANS[kind].identity(x.dtype), x.dtype)
    chosen = apply("where", is_before, Arg(x.dtype, 0), nothing)
    spread = build.pointwise(chosen, source, shape=(*lead, n, n), origin=origin)
    return build.reshape(_fold(spread, kind, rank, origin), x.shape, origin)


def _fold(spread: Node, kind: str, axis: int, origin: str) -> Node:
    if kind != "logsumexp":
        return build.reduce(kind, spread, (axis,), origin)
    top = build.reduce("max", spread, (axis,), origin)
    share = apply("exp", apply("sub", Arg(FLOAT32, 0), _finite(Arg(FLOAT32, 1))))
    shares = build.pointwise(share, spread, top, origin=origin)
    total = build.reduce("sum", shares, (axis,), origin)
    logarithm = apply("add", _finite(Arg(FLOAT32, 0)), apply("log", Arg(FLOAT32, 1)))
    return build.pointwise(logarithm, top, total, origin=origin)


def _finite(x: Expr) -> Expr:
    """Infinity is no reference: inf - inf would be NaN."""
    return apply("where", apply("eq", apply("abs", x), math.inf), 0.0, x)


def _in_blocks(x: Node, kind: str, size: int, origin: str) -> Node:
    *lead, n = x.shape
    count = -(-n.static // size)
    rank, whole = len(x.shape), count * size
    nothing = SCANS[kind].identity(x.dtype)
    rest = [*[0] * (rank - 1), whole - n.static]
    padded = build.pad(x, [0] * rank, rest, nothing, origin)
    blocks = build.reshape(padded, (*lead, count, size), origin)
    within = running(blocks, kind, origin)
    last = build.slice_(within, [*[0] * rank, size - 1], (*lead, count, 1), origin=origin)
    totals = running(build.reshape(last, (*lead, count), origin), kind, origin)
    ends = [*[0] * (rank - 1), 1], [*[0] * (rank - 1), -1]
    before = build.reshape(build.pad(totals, *ends, nothing, origin), (*lead, count, 1), origin)
    both = build.pointwise(_combined(kind, x.dtype), within, before, origin=origin)
    joined = build.reshape(both, (*lead, whole), origin)
    return build.slice_(joined, [0] * rank, x.shape, origin=origin)


def _combined(kind: str, dtype: str) -> Expr:
    a, b = Arg(dtype, 0), Arg(dtype, 1)
    if kind != "logsumexp":
        return apply(SCANS[kind].combine, a, b)
    top = apply("maximum", a, b)
    share = apply("exp", apply("neg", apply("abs", apply("sub", a, b))))
    is_equal = apply("eq", a, b)  # also where both are infinite
    larger = apply("log1p", apply("where", is_equal, 1.0, share))
    return apply("add", top, larger)

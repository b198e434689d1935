"""Scalar expressions: the language of every pointwise node and every kernel body.

An expression is a tree of ops over leaves; expressions are compared by identity and may share
sub-expressions (they form a DAG).  What an op means is a row of the table in `scalar.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hearth.ir.dtype import BOOL, FLOAT32

Scalar = float | int | bool
Array = Any  # np.ndarray of any dtype; NumPy's own stubs lose it on every operator


@dataclass(frozen=True, eq=False, slots=True)
class Expr:
    """Base of all scalar expressions."""

    dtype: str


@dataclass(frozen=True, eq=False, slots=True)
class Const(Expr):
    value: Scalar


@dataclass(frozen=True, eq=False, slots=True)
class Arg(Expr):
    """The element of a pointwise node's k-th input (broadcast to the node's shape)."""

    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Coord(Expr):
    """The element's coordinate along an axis of the node (int32); axis None is the linear index."""

    axis: int | None


@dataclass(frozen=True, eq=False, slots=True)
class BatchValue(Expr):
    """A number that depends on the batch size: `numerator(B) / denominator(B)`, as float32."""

    numerator: Any  # Dim
    denominator: Any  # Dim

    def at(self, batch: int) -> float:
        """The value for one batch size; a zero denominator gives an infinity or NaN."""
        top, bottom = self.numerator.at(batch), self.denominator.at(batch)
        if bottom != 0:
            return float(top / bottom)
        return math.copysign(math.inf, top) if top else math.nan


@dataclass(frozen=True, eq=False, slots=True)
class Apply(Expr):
    op: str
    args: tuple[Expr, ...]


SAME = "same"  # the result has the type of the last argument


@dataclass(frozen=True)
class ScalarOp:
    """One function of numbers: NumPy meaning, result type, and how to say it in simpler ops."""

    name: str
    arity: int
    result: str
    reference: Callable[..., Array]
    expansion: Callable[..., Expr] | None = None


SCALAR_OPS: dict[str, ScalarOp] = {}  # filled by scalar.py, once, when it is imported


def const(value: Scalar, dtype: str = FLOAT32) -> Const:
    """A number as Python's own type for the element type."""
    kinds: dict[str, type[Scalar]] = {FLOAT32: float, BOOL: bool}
    return Const(dtype, kinds.get(dtype, int)(value))


def apply(op: str, *args: Expr | Scalar) -> Expr:
    """The op applied to expressions; a Python number takes the type of its neighbours.

    >>> apply("add", Arg("float32", 0), 1).dtype
    'float32'
    """
    row = SCALAR_OPS[op]
    assert len(args) == row.arity, f"{op} takes {row.arity} operands, got {len(args)}"
    typed = [a for a in args if isinstance(a, Expr)]
    last = typed[-1].dtype if typed else FLOAT32
    operands = tuple(a if isinstance(a, Expr) else const(a, last) for a in args)
    return Apply(operands[-1].dtype if row.result == SAME else row.result, op, operands)


def cast(value: Expr, dtype: str) -> Expr:
    return value if value.dtype == dtype else apply(f"to_{dtype}", value)


def operands(expr: Expr) -> tuple[Expr, ...]:
    return expr.args if isinstance(expr, Apply) else ()


def walk(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every distinct sub-expression once, operands before their users."""
    seen: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        expr, ready = stack.pop()
        if id(expr) in seen:
            continue
        if ready:
            seen.add(id(expr))
            yield expr
        else:
            stack.append((expr, True))
            stack.extend((a, False) for a in reversed(operands(expr)) if id(a) not in seen)


def rewrite(roots: Iterable[Expr], rule: Callable[[Expr], Expr]) -> list[Expr]:
    """Apply `rule` bottom-up to every sub-expression, keeping what is shared shared."""
    roots = list(roots)
    done: dict[int, Expr] = {}
    for expr in walk(roots):
        new = expr
        if isinstance(expr, Apply):
            args = tuple(done[id(a)] for a in expr.args)
            if any(x is not y for x, y in zip(args, expr.args, strict=True)):
                new = Apply(expr.dtype, expr.op, args)
        done[id(expr)] = rule(new)
    return [done[id(root)] for root in roots]


def expand(roots: Iterable[Expr], spelled: Iterable[str]) -> list[Expr]:
    """Rewrite every op outside `spelled` into ops inside it."""
    known = frozenset(spelled)

    def rule(expr: Expr) -> Expr:
        if not isinstance(expr, Apply) or expr.op in known:
            return expr
        expansion = SCALAR_OPS[expr.op].expansion
        assert expansion is not None, f"{expr.op}: neither spelled nor expandable"
        return expand([expansion(*expr.args)], known)[0]

    return rewrite(roots, rule)

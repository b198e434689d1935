"""Expressions of a kernel with equal structure as one object, and what they depend on.

Later stages may then key what they computed by identity, and ask which loops a value varies with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hearth.codegen.wasm.spelling import is_spelled
from hearth.ir.dim import Dim
from hearth.ir.expr import Apply, BatchValue, Const, Expr, walk
from hearth.ir.index import Atom, Axis, FloorDiv, Index, Mod, Value, is_in_range, substitute
from hearth.ir.kernel import Accumulator, Guard, IndexValue, InRange, Load
from hearth.ir.scalar import SCALAR_OPS
from hearth.ir.walking import indices_of

ACCUMULATOR = -1  # stands for "an earlier reduction" in a set of axes
KEPT = ("random",)  # spelled where its index is known to be aligned
AxisRule = Callable[[Axis], Index | None]


def keep_axes(axis: Axis) -> Index | None:
    return None


def axis_index(position: int, extent: Dim) -> Index:
    return Index(((Axis(position, extent), Dim.of(1)),))


class Canonical:
    """Rebuilds expressions so that equal ones are the same object."""

    def __init__(self) -> None:
        self._known: dict[Any, Expr] = {}
        self._axes: dict[int, frozenset[int]] = {}
        self._kept: list[Expr] = []  # sources stay alive: their ids are keys

    def expr(self, expr: Expr, axes: AxisRule = keep_axes) -> Expr:
        """The canonical form; `axes` may replace loop variables."""
        done: dict[int, Expr] = {}
        for sub in walk([expr]):  # operands first, so that deep expressions do not recurse
            self.axes_of(self._rebuild(sub, axes, done))
        return done[id(expr)]

    def index(self, index: Index, axes: AxisRule) -> Index:
        return self._index(index, axes, {})

    def axes_of(self, expr: Expr) -> frozenset[int]:
        """The loop variables that a canonical expression depends on, and `ACCUMULATOR`."""
        known = self._axes.get(id(expr))
        if known is None:
            known = self._axes[id(expr)] = self._find_axes(expr)
        return known

    def axes_of_index(self, index: Index) -> frozenset[int]:
        return frozenset().union(*(self._axes_of_atom(atom) for atom, _ in index.terms))

    def stride(self, index: Index, position: int) -> Dim | None:
        """As `Index.coefficient`, but a gathered index that does not vary is a constant."""
        stride = Dim()
        for atom, coefficient in index.terms:
            if isinstance(atom, Axis):
                stride = coefficient if atom.position == position else stride
            elif position in self._axes_of_atom(atom):
                return None
        return stride

    def _axes_of_atom(self, atom: Atom) -> frozenset[int]:
        match atom:
            case Axis():
                return frozenset((atom.position,))
            case FloorDiv() | Mod():
                return self.axes_of_index(atom.numerator)
            case Value():
                return self.axes_of(atom.expr)

    def _find_axes(self, expr: Expr) -> frozenset[int]:
        match expr:
            case Apply():
                return frozenset().union(*(self.axes_of(a) for a in expr.args))
            case Load() | IndexValue():
                return frozenset().union(*(self.axes_of_index(i) for i in indices_of(expr)))
            case Accumulator():
                return frozenset((ACCUMULATOR,))
        return frozenset()

    def _rebuild(self, expr: Expr, axes: AxisRule, done: dict[int, Expr]) -> Expr:
        if id(expr) not in done:
            self._kept.append(expr)
            done[id(expr)] = self._rebuilt(expr, axes, done)
        return done[id(expr)]

    def _rebuilt(self, expr: Expr, axes: AxisRule, done: dict[int, Expr]) -> Expr:
        match expr:
            case Apply():
                args = tuple(self._rebuild(a, axes, done) for a in expr.args)
                is_known = is_spelled(expr.op, args[-1].dtype) or expr.op in KEPT
                if not is_known:
                    expansion = SCALAR_OPS[expr.op].expansion
                    assert expansion is not None, f"{expr.op}: neither spelled nor expandable"
                    return self._rebuild(expansion(*args), keep_axes, {id(a): a for a in args})
                key: Any = ("apply", expr.dtype, expr.op, *map(id, args))
                return self._known.setdefault(key, Apply(expr.dtype, expr.op, args))
            case Load():
                new = replace(
                    expr,
                    index=self._index(expr.index, axes, done),
                    guards=self._guards(expr.guards, axes, done),
                )
                key = ("load", new.dtype, new.param, new.index, new.guards, repr(new.fill))
                return self._known.setdefault(key, new)
            case IndexValue():
                index = self._index(expr.index, axes, done)
                key = ("index", expr.dtype, index)
                return self._known.setdefault(key, IndexValue(expr.dtype, index))
            case Const():
                return self._known.setdefault(("const", expr.dtype, repr(expr.value)), expr)
            case BatchValue():
                return self._known.setdefault(("batch", expr.numerator, expr.denominator), expr)
            case Accumulator():
                return self._known.setdefault(("accumulator", expr.number), expr)
        raise AssertionError(f"{type(expr).__name__} does not belong in a kernel")

    def _index(self, index: Index, axes: AxisRule, done: dict[int, Expr]) -> Index:
        def rule(atom: Atom) -> Index | None:
            if isinstance(atom, Axis):
                return axes(atom)
            if isinstance(atom, Value):
                expr = self._rebuild(atom.expr, axes, done)
                return Index(((Value(expr, atom.extent), Dim.of(1)),))
            return None

        return substitute(index, rule)

    def _guards(
        self, guards: tuple[Guard, ...], axes: AxisRule, done: dict[int, Expr]
    ) -> tuple[Guard, ...]:
        moved = (replace(g, index=self._index(g.index, axes, done)) for g in guards)
        return tuple(
            g for g in moved if not (isinstance(g, InRange) and is_in_range(g.index, g.extent))
        )

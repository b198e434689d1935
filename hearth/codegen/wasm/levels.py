"""Loop levels: where a value is computed, and which pointers move with which loop.

A function under construction is at the end of a path of levels: its entry, then one per open loop.
A value is computed once, at the deepest level that it depends on: in the body of the innermost
loop, or in the code in front of the next loop on the path (`at`).  Linear indices become locals
that a loop increments, because V8 folds constant offsets into an access, but no multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import floordiv, mod
from typing import Any

from hearth.codegen.wasm.assembler import Code, Function, Local, Operand, as_i32, i32, op
from hearth.codegen.wasm.canonical import Canonical
from hearth.ir.dim import Dim
from hearth.ir.index import Axis, FloorDiv, Index, Mod, Value

ValueOf = Callable[[Value, int | None], Operand]  # (gathered index, lane) -> i32


@dataclass(eq=False)
class Level:
    """An open loop (or the entry): `before` is the place in front of it."""

    before: Code
    scope: list[Local]
    axis: int | None = None
    variable: Operand = field(default_factory=lambda: i32(0))
    start: Operand = field(default_factory=lambda: i32(0))
    step: int = 1
    quarter: int | None = None  # stands for axis/4 where the loop goes from a multiple of 4 by 4
    increments: list[tuple[Local, Operand]] = field(default_factory=list)
    memo: dict[Any, Operand] = field(default_factory=dict)


class Levels:
    """The path of open loops in one function; its parameter 0 is the batch size."""

    def __init__(self, function: Function, canonical: Canonical, value_of: ValueOf) -> None:
        self.function, self.canonical, self.value_of = function, canonical, value_of
        self.path = [Level([], function.scopes[-1])]

    def depth_of(self, axes: frozenset[int]) -> int:
        """The deepest level whose loop variable is among the axes."""
        depths = (
            d for d, level in enumerate(self.path) if level.axis in axes or level.quarter in axes
        )
        return max(depths, default=0)

    @contextmanager
    def at(self, depth: int) -> Iterator[None]:
        """Emits into the body of a level, in front of the next loop of the path."""
        if depth == len(self.path) - 1:
            yield
        else:
            with self.function.into(self.path[depth + 1].before):
                yield

    def keep(self, depth: int, key: Any, make: Callable[[], Operand]) -> Operand:
        """A value of a level: computed by `make` when first asked for."""
        memo = self.path[depth].memo
        if key not in memo:
            with self.at(depth):
                memo[key] = self.store(depth, make())
        return memo[key]

    def store(self, depth: int, value: Operand) -> Operand:
        """The value in a local that lives as long as its level; constants need none."""
        if len(value.code) == 1:
            return value
        is_current = depth == len(self.path) - 1
        scope = self.path[depth].scope
        return self.function.local(value, fresh=not is_current, scope=scope)

    @contextmanager
    def loop(self, axis: int, start: Operand | int, end: Operand | int, step: int = 1,
             quarter: int | None = None) -> Iterator[Local]:  # fmt: skip
        """A loop while `variable + step <= end`; afterwards the variable is where it stopped.

        `quarter` is a number for "axis / 4" in indices, for loops by 4 from a multiple of 4 on.
        """
        f = self.function
        start, end = as_i32(start), as_i32(end)
        own = f.local(start)
        limit = end - (step - 1)
        limit = limit if limit.constant is not None or step == 1 else f.local(limit)
        before = f.placeholder()
        first, last = start.constant, limit.constant
        is_sure = first is not None and last is not None and first < last
        with f.nothing() if is_sure else f.if_(op("i32.lt_s", own, limit)), f.loop() as scope:
            begin = start if first is not None else own
            level = Level(before, scope, axis, own, begin, step, quarter)
            self.path.append(level)
            yield own
            self.path.pop()
            for local, amount in level.increments:
                f.increment(local, amount)
            f.increment(own, step)
            f.repeat_if(op("i32.lt_s", own, limit))

    def dim(self, dim: Dim) -> Operand:
        """A number that depends on the batch size."""
        if dim.is_static:
            return i32(dim.static)

        def polynomial() -> Operand:
            batch = self.function.param(0)
            total = i32(0)
            for coefficient in reversed(dim.coefficients):
                total = total * batch + coefficient
            return total

        return self.keep(0, ("dim", dim), polynomial)

    def number(self, index: Index, lane: int | None = None) -> Operand:
        """The value of an index (of the given lane, where gathered indices have lanes)."""
        if len(index.terms) == 1 and index.constant == Dim():
            ((atom, coefficient),) = index.terms
            if isinstance(atom, Axis) and coefficient == Dim.of(1):
                return self._atom(atom, lane)
        rest, constant = split_constant(index)
        return self.affine(None, i32(0), rest, 1, lane) + constant

    def affine(self, key: Any, base: Operand, index: Index, scale: int,
               lane: int | None = None) -> Operand:  # fmt: skip
        """`base + scale * index`; `key` names the base."""
        depth = self.depth_of(self.canonical.axes_of_index(index))
        own = (key, index, scale, lane)
        if depth == 0:
            return self.keep(0, own, lambda: self._sum(base, index, scale, lane))
        level = self.path[depth]
        assert level.axis is not None
        linear, other = self._split(index, {level.axis, level.quarter})
        outer = index - linear - other
        if other.terms:
            rest = self.affine(key, base, outer + linear, scale, lane)
            return self.keep(depth, own, lambda: self._sum(rest, other, scale, lane))
        if own not in level.memo:
            ((atom, coefficient),) = linear.terms
            is_quarter = isinstance(atom, Axis) and atom.position == level.quarter
            stride = self.dim(coefficient * scale)
            start = self.affine(key, base, outer, scale, lane)
            with self.at(depth - 1):
                begin = op("i32.shr_u", level.start, 2) if is_quarter else level.start
                value = start + begin * stride
                pointer = self.function.local(value, fresh=True, scope=self.path[depth - 1].scope)
            amount = stride * (1 if is_quarter else level.step)
            if amount.constant is None and len(amount.code) > 1:
                with self.at(depth - 1):
                    amount = self.store(depth - 1, amount)
            level.increments.append((pointer, amount))
            level.memo[own] = pointer
        return level.memo[own]

    def _split(self, index: Index, axes: set[int | None]) -> tuple[Index, Index]:
        """One term that is linear in a loop variable, and the terms that depend on it otherwise."""
        linear, other = Index(), Index()
        for atom, coefficient in index.terms:
            term = Index(((atom, coefficient),))
            if isinstance(atom, Axis) and atom.position in axes and not linear.terms:
                linear = term
            elif axes & self.canonical.axes_of_index(term):
                other = other + term
        return linear, other

    def _sum(self, base: Operand, index: Index, scale: int, lane: int | None) -> Operand:
        total = base + self.dim(index.constant * scale)
        for atom, coefficient in index.terms:
            value = self._atom(atom, lane)
            total = total + value * self.dim(coefficient * scale)
        return total

    def _atom(self, atom: Axis | FloorDiv | Mod | Value, lane: int | None) -> Operand:
        match atom:
            case Axis():
                level = self.path[self.depth_of(frozenset((atom.position,)))]
                if atom.position == level.quarter:
                    return op("i32.shr_u", level.variable, 2)
                return level.variable
            case Value():
                return self.value_of(atom, lane)
        known = atom.numerator.constant
        if atom.numerator.is_constant and known.is_static and atom.divisor.is_static:
            divide = floordiv if isinstance(atom, FloorDiv) else mod
            return i32(divide(known.static, atom.divisor.static))
        # Numerators are non-negative wherever the result is used.
        name = "i32.div_u" if isinstance(atom, FloorDiv) else "i32.rem_u"
        depth = self.depth_of(self.canonical.axes_of_index(atom.numerator))
        return self.keep(
            depth,
            (atom, lane),
            lambda: op(name, self.number(atom.numerator, lane), self.dim(atom.divisor)),
        )


def split_constant(index: Index) -> tuple[Index, int]:
    """The index without its constant, where that does not depend on the batch size."""
    if not index.constant.is_static:
        return index, 0
    return Index(index.terms), index.constant.static

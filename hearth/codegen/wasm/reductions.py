"""Accumulators of reductions: how they start, take an element, and end.

Sums of many floats run in float64 and are rounded once, so that their error does not grow with
their length; short ones run in float32.  max and min propagate NaN; argmax takes the first largest,
and NaN counts as the largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import (
    Function,
    Local,
    Operand,
    f32x4,
    f64,
    i32,
    op,
    select,
    shuffle,
)
from hearth.codegen.wasm.constants import scalar_constant, spread
from hearth.codegen.wasm.spelling import KINDS, Speller
from hearth.ir.dim import Dim
from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32
from hearth.ir.expr import Const

SHORT_SUM = 64  # up to here float32 is as good as PyTorch's pairwise sum

_COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
# V8 needs eight dependent instructions for a maximum that keeps NaN, and one for this.
_EXTREMES = {"max": "f32x4.pmax", "min": "f32x4.pmin"}
_LOWEST = {FLOAT32: -math.inf, INT32: -(2**31), UINT32: 0, BOOL: 0}
_HIGHEST = {FLOAT32: math.inf, INT32: 2**31 - 1, UINT32: 2**32 - 1, BOOL: 1}


def initial_value(kind: str, dtype: str) -> Const:
    if kind in ("max", "argmax"):
        return Const(dtype, _LOWEST[dtype])
    if kind in ("min", "argmin"):
        return Const(dtype, _HIGHEST[dtype])
    return Const(dtype, 1 if kind == "prod" else 0)


def is_long(count: Dim) -> bool:
    return not Dim.of(SHORT_SUM).is_at_least(count)


@dataclass(frozen=True, eq=False)
class Running:
    """One accumulator of one reduction, scalar or on four lanes."""

    function: Function
    speller: Speller
    kind: str
    dtype: str
    is_vector: bool
    is_wide: bool  # a float sum in float64
    is_split: bool  # an extremum of floats on four lanes: the numbers, and where NaN was seen
    locals: tuple[Local, ...]

    @staticmethod
    def start(speller: Speller, kind: str, dtype: str, is_vector: bool, count: Dim) -> Running:
        f = speller.function
        is_wide = kind == "sum" and dtype == FLOAT32 and is_long(count)
        is_split = kind in _EXTREMES and dtype == FLOAT32 and is_vector
        if is_wide:
            zero = op("f64x2.splat", f64(0)) if is_vector else f64(0)
            values = [zero] * (2 if is_vector else 1)
        else:
            first = scalar_constant(initial_value(kind, dtype))
            values = [spread(first, dtype) if is_vector else first]
        if kind.startswith("arg"):
            values.append(op("i32x4.splat", i32(0)) if is_vector else i32(0))
        if is_split:
            values.append(op("i32x4.splat", i32(0)))
        own = tuple(f.local(v) for v in values)
        return Running(f, speller, kind, dtype, is_vector, is_wide, is_split, own)

    def take(self, value: Operand, position: Operand | None = None) -> None:
        """Adds an element (four elements); `position` is for argmax and argmin."""
        f, state = self.function, self.locals
        if position is not None:
            self._take_position(f.local(value), position)
        elif self.is_split:
            value = f.local(value)
            f.set(state[0], op(_EXTREMES[self.kind], state[0], value))
            f.set(state[1], op("v128.or", state[1], op("f32x4.ne", value, value)))
        elif self.is_wide and self.is_vector:
            value = f.local(value)
            upper = shuffle(value, value, 2, 3, 2, 3)
            for local, half in zip(state, (value, upper), strict=True):
                f.set(local, op("f64x2.add", local, op("f64x2.promote_low_f32x4", half)))
        elif self.is_wide:
            f.set(state[0], op("f64.add", state[0], op("f64.promote_f32", value)))
        else:
            f.set(state[0], self._combine(state[0], value))

    def _combine(self, a: Operand, b: Operand) -> Operand:
        return self.speller.apply(_COMBINE[self.kind], self.dtype, [a, b])

    def _take_position(self, value: Operand, position: Operand) -> None:
        f, (best, where) = self.function, self.locals
        worse = "le" if self.kind == "argmax" else "ge"
        better = self.speller.apply(worse, self.dtype, [value, best])
        better = self.speller.apply("not", BOOL, [better])
        if KINDS[self.dtype] == "f":
            is_number = self.speller.apply("eq", self.dtype, [best, best])
            better = self.speller.apply("and", BOOL, [better, is_number])
        better = f.local(better)
        pick = self._pick
        f.set(best, pick(better, value, best))
        f.set(where, pick(better, position, where))

    def _pick(self, condition: Operand, if_true: Operand, if_false: Operand) -> Operand:
        if self.is_vector:
            return op("v128.bitselect", if_true, if_false, condition)
        return select(condition, if_true, if_false)

    def result(self, tail: Running | None = None) -> Operand:
        """The reduced value per point.

        Without `tail`, lanes are points and stay apart; with it, lanes are parts of one reduction
        and are folded together with the tail's scalar.
        """
        if tail is None:
            return self._own_result()
        if self.is_wide:
            pair = self.function.local(op("f64x2.add", *self.locals))
            lanes = [op("f64x2.extract_lane", pair, immediate=i) for i in range(2)]
            total = op("f64.add", op("f64.add", *lanes), tail.locals[0])
            return op("f32.demote_f64", total)
        folded = self._lanes()
        for order in ((2, 3, 0, 1), (1, 0, 3, 2)):
            folded = self.function.local(self._combine(folded, shuffle(folded, folded, *order)))
        return self._combine(first_lane(folded, self.dtype), tail.locals[0])

    def _lanes(self) -> Operand:
        """The value so far, of one or of four lanes."""
        if not self.is_split:
            return self.locals[0]
        number, is_nan = self.locals
        return op("v128.bitselect", f32x4(math.nan), number, is_nan)

    def _own_result(self) -> Operand:
        if self.kind.startswith("arg"):
            return self.locals[1]
        if not self.is_wide:
            return self._lanes()
        if not self.is_vector:
            return op("f32.demote_f64", self.locals[0])
        low, high = (op("f32x4.demote_f64x2_zero", x) for x in self.locals)
        return shuffle(low, high, 0, 1, 4, 5)


def first_lane(vector: Operand, dtype: str) -> Operand:
    if dtype == FLOAT32:
        return op("f32x4.extract_lane", vector, immediate=0)
    lane = op("i32x4.extract_lane", vector, immediate=0)
    return op("i32.and", lane, 1) if dtype == BOOL else lane

"""Floor division, for which WebAssembly has no instruction on lanes.

A quotient of 32-bit integers or floats is exact enough in float64 that its floor is the right one.
A divisor of zero counts as one: such an element is never used, but must not trap.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import (
    Function,
    Operand,
    f32x4,
    i32,
    i32x4,
    op,
    select,
    shuffle,
)
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.opcodes import I32, V128

HALVES = ((0, 1, 0, 1), (2, 3, 2, 3))


def floats(maths: Maths) -> Function:
    """floor(a / b) of the exact quotient, four lanes."""
    f = Function("maths.floor_div_f", (V128, V128), V128)
    a, b = f.param(0), f.param(1)
    is_zero = f.local(op("f32x4.eq", b, f32x4(0)))
    f.set(b, op("v128.bitselect", f32x4(1), b, is_zero))
    low, high = (
        op("f32x4.demote_f64x2_zero", _floor(a, b, "f64x2.promote_low_f32x4", half))
        for half in HALVES
    )
    f.result(shuffle(low, high, 0, 1, 4, 5))
    return maths.module.add(f)


def lanes(maths: Maths, kind: str) -> Function:
    """Integers, four lanes; `kind` is i (signed) or u."""
    sign = "s" if kind == "i" else "u"
    f = Function(f"maths.floor_div_{kind}x4", (V128, V128), V128)
    a, b = f.param(0), f.param(1)
    is_zero = op("i32x4.eq", b, i32x4(0))
    f.set(b, op("i32x4.sub", b, is_zero))  # a mask is -1
    low, high = (
        op(f"i32x4.trunc_sat_f64x2_{sign}_zero",
           _floor(a, b, f"f64x2.convert_low_i32x4_{sign}", half))
        for half in HALVES
    )  # fmt: skip
    quotient = shuffle(low, high, 0, 1, 4, 5)
    if kind == "i":  # -(2**31) / -1 wraps around, as negation does
        is_minus_one = op("i32x4.eq", b, i32x4(-1))
        quotient = op("v128.bitselect", op("i32x4.neg", a), quotient, is_minus_one)
    f.result(quotient)
    return maths.module.add(f)


def _floor(a: Operand, b: Operand, widen: str, half: tuple[int, ...]) -> Operand:
    pair = [op(widen, shuffle(x, x, *half)) for x in (a, b)]
    return op("f64x2.floor", op("f64x2.div", *pair))


def scalar(maths: Maths, kind: str) -> Function:
    """One integer; `kind` is i (signed) or u."""
    f = Function(f"maths.floor_div_{kind}", (I32, I32), I32)
    a, b = f.param(0), f.param(1)
    f.set(b, select(b, b, i32(1)))
    if kind == "u":
        f.result(op("i32.div_u", a, b))
        return maths.module.add(f)
    # -(2**31) / -1 traps: dividing by -1 is negation instead.
    is_minus_one = f.local(op("i32.eq", b, -1))
    f.set(b, select(is_minus_one, i32(1), b))
    q = f.local(op("i32.div_s", a, b))
    rest = f.local(a - q * b)
    is_below = op("i32.and", op("i32.ne", rest, 0), op("i32.lt_s", op("i32.xor", rest, b), 0))
    f.result(select(is_minus_one, op("i32.sub", i32(0), a), q - is_below))
    return maths.module.add(f)

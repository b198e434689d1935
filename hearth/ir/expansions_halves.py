"""Rounding a float32 to the nearest half, ties to even, by its bits.

What overflows is infinite, NaN stays, and what is too small for a normal float16 rounds to a
multiple of 2**-24.  Bits, because a compiler may simplify an addition of a large number that is
taken off again, or a conversion there and back.
"""

from __future__ import annotations

from hearth.ir.dtype import UINT32
from hearth.ir.expr import Expr, apply, const

_INFINITY = 0x7F800000
_FLOAT16_OVERFLOW = 0x47800000  # 2**16
_FLOAT16_NORMAL = 2.0**-14
_FLOAT16_UNIT = 2.0**-24  # between neighbours below the smallest normal number


def expand_round_float16(x: Expr) -> Expr:
    magnitude = apply("bit_and", apply("bits_of_float", x), 0x7FFFFFFF)
    nearest = _nearest(magnitude, 13)
    overflows = apply("ge", nearest, const(_FLOAT16_OVERFLOW, UINT32))
    bounded = apply("where", overflows, const(_INFINITY, UINT32), nearest)
    is_nan = apply("gt", magnitude, const(_INFINITY, UINT32))
    normal = _signed(x, apply("where", is_nan, magnitude, bounded))
    small = apply("mul", apply("round", apply("mul", x, 1 / _FLOAT16_UNIT)), _FLOAT16_UNIT)
    return apply("where", apply("lt", apply("abs", x), _FLOAT16_NORMAL), small, normal)


def expand_round_bfloat16(x: Expr) -> Expr:
    magnitude = apply("bit_and", apply("bits_of_float", x), 0x7FFFFFFF)
    is_nan = apply("gt", magnitude, const(_INFINITY, UINT32))
    return _signed(x, apply("where", is_nan, magnitude, _nearest(magnitude, 16)))


def _nearest(magnitude: Expr, dropped: int) -> Expr:
    """The bits without the last `dropped`: half a unit is added first, less one bit if even."""
    odd = apply("bit_and", apply("shift_right", magnitude, dropped), 1)
    raised = apply("add", apply("add", magnitude, odd), (1 << (dropped - 1)) - 1)
    return apply("bit_and", raised, 0xFFFFFFFF >> dropped << dropped)


def _signed(x: Expr, magnitude: Expr) -> Expr:
    sign = apply("bit_and", apply("bits_of_float", x), 0x80000000)
    return apply("float_of_bits", apply("bit_or", magnitude, sign))

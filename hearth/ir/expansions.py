"""Scalar ops in terms of simpler ones, for targets that do not have them.

Accuracy is that of float32 arithmetic with an exact `exp`, `log`, `sin`, `cos` and `sqrt`; the
bounds are measured in tests/scalars/test_expansions.py.
"""

from __future__ import annotations

import math

from hearth.ir.dtype import FLOAT32, UINT32
from hearth.ir.expr import Const, Expr, apply, const


def expand_rsqrt(x: Expr) -> Expr:
    return apply("div", 1.0, apply("sqrt", x))


def expand_sigmoid(x: Expr) -> Expr:
    # 1 / (1 + exp(-|x|)) on the positive side, mirrored: exp never overflows.
    e = apply("exp", apply("neg", apply("abs", x)))
    numerator = apply("where", apply("ge", x, 0.0), const(1.0), e)
    return apply("div", numerator, apply("add", e, 1.0))


def with_series(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """X + x·z·p(z), z = x*x."""
    z = apply("mul", x, x)
    return apply("add", apply("mul", apply("mul", polynomial(z, coefficients), z), x), x)


# Moshier, Cephes tanhf: tanh x = x + x·z·p(z) with z = x*x for |x| < 0.625.
_TANH = (-3.33332819422e-1, 1.33314422036e-1, -5.37397155531e-2, 2.06390887954e-2,
         -5.70498872745e-3)  # fmt: skip


def expand_tanh(x: Expr) -> Expr:
    # 1 - 2 / (exp(2|x|) + 1) does not overflow; near 0 it would cancel.
    a = apply("abs", x)
    e = apply("exp", apply("mul", a, 2.0))
    positive = apply("sub", 1.0, apply("div", 2.0, apply("add", e, 1.0)))
    large = apply("where", apply("lt", x, 0.0), apply("neg", positive), positive)
    return apply("where", apply("lt", a, 0.625), with_series(x, _TANH), large)


def expand_log1p(x: Expr) -> Expr:
    # Goldberg 1991, theorem 4: log(u)·x/(u-1) with u = 1 + x corrects the rounding of u.
    u = apply("add", x, 1.0)
    d = apply("sub", u, 1.0)
    corrected = apply("mul", apply("log", u), apply("div", x, d))
    usual = apply("where", apply("eq", d, 0.0), x, corrected)
    infinite = apply("eq", u, math.inf)
    return apply("where", infinite, u, usual)


def expand_expm1(x: Expr) -> Expr:
    # Near 0 the Taylor polynomial (relative error < 1e-9 for |x| < 0.5); elsewhere exp(x) - 1.
    terms = [1.0 / math.factorial(k) for k in range(9, 0, -1)]
    series: Expr = const(terms[0])
    for c in terms[1:]:
        series = apply("add", apply("mul", series, x), c)
    near = apply("lt", apply("abs", x), 0.5)
    return apply("where", near, apply("mul", series, x), apply("sub", apply("exp", x), 1.0))


# Rational minimax approximations of erf by W. J. Cody, Math. Comp. 23 (1969).
_ERF_P = (3.209377589138469472562e03, 3.774852376853020208137e02, 1.138641541510501556495e02,
          3.161123743870565596947e00, 1.857777061846031526730e-01)  # fmt: skip
_ERF_Q = (2.844236833439170622273e03, 1.282616526077372275645e03, 2.440246379344441733056e02,
          2.360129095234412093499e01, 1.0)  # fmt: skip
ERFC_P = (1.23033935479799725272e03, 2.05107837782607146532e03, 1.71204761263407058314e03,
           8.81952221241769090411e02, 2.98635138197400131132e02, 6.61191906371416294775e01,
           8.88314979438837594118e00, 5.64188496988670089180e-01,
           2.15311535474403846343e-08)  # fmt: skip
ERFC_Q = (1.23033935480374942043e03, 3.43936767414372163696e03, 4.36261909014324715820e03,
           3.29079923573345962678e03, 1.62138957456669018874e03, 5.37181101862009857509e02,
           1.17693950891312499305e02, 1.57449261107098347253e01, 1.0)  # fmt: skip


def polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    value: Expr = const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = apply("add", apply("mul", value, x), c)
    return value


def expand_erf(x: Expr) -> Expr:
    a = apply("abs", x)
    z = apply("mul", x, x)
    small = apply("mul", x, apply("div", polynomial(z, _ERF_P), polynomial(z, _ERF_Q)))
    bounded = apply("minimum", a, 4.0)
    tail = apply("div", polynomial(bounded, ERFC_P), polynomial(bounded, ERFC_Q))
    gauss = apply("exp", apply("neg", apply("mul", bounded, bounded)))
    large = apply("sub", const(1.0), apply("mul", gauss, tail))
    signed = apply("where", apply("lt", x, 0.0), apply("neg", large), large)
    return apply("where", apply("gt", a, 0.46875), signed, small)


def expand_erfc(x: Expr) -> Expr:
    """1 - erf near 0; the scaled tail of Cody beyond, with exp(-a*a) by a split of a."""
    a = apply("abs", x)
    bounded = apply("minimum", a, 4.0)
    tail = apply("div", polynomial(bounded, ERFC_P), polynomial(bounded, ERFC_Q))
    far = apply("where", apply("gt", a, 4.0), _erfc_far(a), tail)
    # a*a in float32 would cost |a*a| ulps in the exponential: a = head + rest, head*head exact.
    held = apply("minimum", a, 16.0)
    head = apply("mul", apply("trunc", apply("mul", held, 16.0)), 0.0625)
    rest = apply("mul", apply("sub", held, head), apply("add", held, head))
    gauss = apply("mul", apply("exp", apply("neg", apply("mul", head, head))),
                  apply("exp", apply("neg", rest)))  # fmt: skip
    large = apply("mul", gauss, far)
    mirrored = apply("where", apply("lt", x, 0.0), apply("sub", 2.0, large), large)
    return apply("where", apply("gt", a, 0.46875), mirrored, apply("sub", 1.0, expand_erf(x)))


# Cody 1969, for a >= 4, in powers of 1/a².
ERFC_FAR_P = (6.58749161529837803157e-04, 1.60837851487422766278e-02, 1.25781726111229246204e-01,
               3.60344899949804439429e-01, 3.05326634961232344035e-01,
               1.63153871373020978498e-02)  # fmt: skip
ERFC_FAR_Q = (2.33520497626869185443e-03, 6.05183413124413191178e-02, 5.27905102951428412248e-01,
               1.87295284992346725209e00, 2.56852019228982242072e00, 1.0)  # fmt: skip


def _erfc_far(a: Expr) -> Expr:
    """exp(a*a)·erfc(a) for a >= 4."""
    w = apply("div", 1.0, apply("mul", a, a))
    ratio = apply("div", polynomial(w, ERFC_FAR_P), polynomial(w, ERFC_FAR_Q))
    return apply("div", apply("sub", 1.0 / math.sqrt(math.pi), apply("mul", w, ratio)), a)


def with_sign_of(x: Expr, magnitude: Expr, *, zero: bool = True) -> Expr:
    """`magnitude` >= 0 with the sign of x; `zero` says that zero goes to zero, sign and all."""
    signed = apply("where", is_negative(x), apply("neg", magnitude), magnitude)
    return apply("where", apply("eq", x, 0.0), x, signed) if zero else signed


def is_negative(x: Expr) -> Expr:
    """Whether the sign bit of a number that is not NaN is set (1/-0 is -inf)."""
    is_zero = apply("eq", x, 0.0)
    return apply("lt", apply("where", is_zero, apply("div", 1.0, x), x), 0.0)


def expand_log2(x: Expr) -> Expr:
    return apply("mul", apply("log", x), 1.0 / math.log(2.0))


def expand_log10(x: Expr) -> Expr:
    return apply("mul", apply("log", x), 1.0 / math.log(10.0))


def expand_fmod(x: Expr, y: Expr) -> Expr:
    """The remainder with the sign of x (C's fmod); for floats exact up to one ulp of x."""
    if x.dtype != FLOAT32:
        rest = apply("remainder", apply("abs", x), apply("abs", y))
        return apply("where", apply("lt", x, 0), apply("neg", rest), rest)
    a, b = apply("abs", x), apply("abs", y)
    quotient = apply("div", a, b)
    rest = apply("sub", a, apply("mul", apply("trunc", quotient), b))
    # The rounded quotient may be one too large or too small.
    rest = apply("where", apply("lt", rest, 0.0), apply("add", rest, b), rest)
    rest = apply("where", apply("ge", rest, b), apply("sub", rest, b), rest)
    # Beyond 2**24 no digit of the quotient's fraction is left.
    rest = apply("where", apply("ge", quotient, 2.0**24), const(0.0), rest)
    rest = apply("where", apply("eq", b, math.inf), a, rest)
    undefined = apply("or", apply("eq", a, math.inf), apply("eq", b, 0.0))
    undefined = apply("or", undefined, apply("is_nan", apply("add", a, b)))
    return with_sign_of(x, apply("where", undefined, const(math.nan), rest), zero=False)


def expand_remainder(x: Expr, y: Expr) -> Expr:
    """The remainder with the sign of y (Python's %)."""
    if x.dtype != FLOAT32:
        return apply("sub", x, apply("mul", apply("floor_div", x, y), y))
    rest = apply("fmod", x, y)
    differs = apply("ne", apply("lt", rest, 0.0), apply("lt", y, 0.0))
    moved = apply("and", differs, apply("ne", rest, 0.0))
    return apply("where", moved, apply("add", rest, y), rest)


def expand_pow(x: Expr, y: Expr) -> Expr:
    """C's powf for |y| < 2**31: sign and parity are handled apart from exp(y·log|x|).

    The relative error grows with |y·log|x||, to 1e-5 where the result is about to overflow.
    """
    a = apply("abs", x)
    magnitude = apply("exp", apply("mul", y, apply("log", a)))
    whole = apply("eq", apply("trunc", y), y)
    half = apply("mul", y, 0.5)
    odd = apply("and", whole, apply("ne", apply("trunc", half), half))
    signed = apply("where", odd, apply("neg", magnitude), magnitude)
    has_no_root = apply("and", apply("not", whole), apply("ne", a, math.inf))
    negative = apply("where", has_no_root, const(math.nan), signed)
    value = apply("where", apply("lt", x, 0.0), negative, magnitude)
    of_zero = apply("where", apply("gt", y, 0.0), x, apply("div", 1.0, x))
    value = apply("where", apply("and", odd, apply("eq", x, 0.0)), of_zero, value)
    limit = apply("and", apply("eq", a, 1.0), apply("eq", apply("abs", y), math.inf))
    is_one = apply("or", apply("eq", y, 0.0), apply("eq", x, 1.0))
    return apply("where", apply("or", is_one, limit), const(1.0), value)


def expand_sign(x: Expr) -> Expr:
    one, zero, minus = (Const(x.dtype, v) for v in (1, 0, -1))
    negative = apply("where", apply("lt", x, zero), minus, zero)
    return apply("where", apply("gt", x, zero), one, negative)


def expand_gelu(x: Expr) -> Expr:
    phi = apply("add", apply("erf", apply("mul", x, math.sqrt(0.5))), 1.0)
    return apply("mul", apply("mul", x, 0.5), phi)


# Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)


def expand_random(key0: Expr, key1: Expr, step: Expr, stream: Expr, index: Expr) -> Expr:
    def u32(value: int) -> Const:
        return Const(UINT32, value)

    words: list[Expr] = [apply("shift_right", index, u32(2)), stream, step, u32(0)]
    for r in range(10):
        k0 = apply("add", key0, u32(r * _PHILOX_WEYL[0] & 0xFFFFFFFF))
        k1 = apply("add", key1, u32(r * _PHILOX_WEYL[1] & 0xFFFFFFFF))
        (m0, m1), (c0, c1, c2, c3) = _PHILOX_MULTIPLIERS, words
        words = [
            apply("bit_xor", apply("bit_xor", apply("mul_high", c2, u32(m1)), c1), k0),
            apply("mul", c2, u32(m1)),
            apply("bit_xor", apply("bit_xor", apply("mul_high", c0, u32(m0)), c3), k1),
            apply("mul", c0, u32(m0)),
        ]
    lane = apply("bit_and", index, u32(3))
    low = apply("where", apply("eq", lane, u32(0)), words[0], words[1])
    high = apply("where", apply("eq", lane, u32(2)), words[2], words[3])
    return apply("where", apply("lt", lane, u32(2)), low, high)


def expand_mul_high(a: Expr, b: Expr) -> Expr:
    """The upper 32 bits of a product, by 16-bit halves."""

    def u32(value: int) -> Const:
        return Const(UINT32, value)

    a0, a1 = apply("bit_and", a, u32(0xFFFF)), apply("shift_right", a, u32(16))
    b0, b1 = apply("bit_and", b, u32(0xFFFF)), apply("shift_right", b, u32(16))
    low = apply("shift_right", apply("mul", a0, b0), u32(16))
    middle = apply("add", apply("mul", a1, b0), low)
    cross = apply("add", apply("mul", a0, b1), apply("bit_and", middle, u32(0xFFFF)))
    high = apply("add", apply("mul", a1, b1), apply("shift_right", middle, u32(16)))
    return apply("add", high, apply("shift_right", cross, u32(16)))

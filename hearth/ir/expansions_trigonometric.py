"""Trigonometric and hyperbolic ops and their inverses in terms of simpler ones.

As in `expansions.py`; the polynomials are those of Moshier's Cephes library (single precision).
"""

from __future__ import annotations

import math

from hearth.ir.expansions import is_negative, with_series, with_sign_of
from hearth.ir.expr import Expr, apply, const


def expand_tan(x: Expr) -> Expr:
    return apply("div", apply("sin", x), apply("cos", x))


# Polynomials of Moshier's Cephes library (single precision): atanf, asinf.
_ATAN = (-3.33329491539e-1, 1.99777106478e-1, -1.38776856032e-1, 8.05374449538e-2)
_ASIN = (1.6666752422e-1, 7.4953002686e-2, 4.5470025998e-2, 2.4181311049e-2, 4.2163199048e-2)


def _atan_positive(a: Expr) -> Expr:
    """Atan for a >= 0, by reduction to |y| <= tan(pi/8)."""
    is_large, is_middle = apply("gt", a, math.tan(3 * math.pi / 8)), apply("gt", a, 0.4142135623730)
    middle = apply("div", apply("sub", a, 1.0), apply("add", a, 1.0))
    near = apply("where", is_middle, middle, a)
    y = apply("where", is_large, apply("div", -1.0, a), near)
    offset = apply("where", is_middle, const(math.pi / 4), const(0.0))
    offset = apply("where", is_large, const(math.pi / 2), offset)
    return apply("add", offset, with_series(y, _ATAN))


def expand_atan(x: Expr) -> Expr:
    return with_sign_of(x, _atan_positive(apply("abs", x)))


def expand_atan2(y: Expr, x: Expr) -> Expr:
    a, b = apply("abs", y), apply("abs", x)
    small, large = apply("minimum", a, b), apply("maximum", a, b)
    quotient = apply("div", small, large)
    quotient = apply("where", apply("eq", large, 0.0), const(0.0), quotient)
    quotient = apply("where", apply("eq", small, math.inf), const(1.0), quotient)
    angle = _atan_positive(quotient)
    angle = apply("where", apply("gt", a, b), apply("sub", math.pi / 2, angle), angle)
    angle = apply("where", is_negative(x), apply("sub", math.pi, angle), angle)
    angle = apply("where", is_negative(y), apply("neg", angle), angle)
    is_nan = apply("or", apply("is_nan", x), apply("is_nan", y))
    return apply("where", is_nan, apply("add", x, y), angle)


def _asin_small(a: Expr) -> Expr:
    return with_series(a, _ASIN)


def expand_asin(x: Expr) -> Expr:
    # Above 1/2: pi/2 - 2·asin(sqrt((1-a)/2)); beyond 1 the square root gives NaN.
    a = apply("abs", x)
    root = apply("sqrt", apply("mul", apply("sub", 1.0, a), 0.5))
    upper = apply("sub", math.pi / 2, apply("mul", _asin_small(root), 2.0))
    magnitude = apply("where", apply("gt", a, 0.5), upper, _asin_small(a))
    return with_sign_of(x, magnitude)


def expand_acos(x: Expr) -> Expr:
    a = apply("abs", x)
    root = apply("sqrt", apply("mul", apply("sub", 1.0, a), 0.5))
    upper = apply("mul", _asin_small(root), 2.0)
    mirrored = apply("where", apply("lt", x, 0.0), apply("sub", math.pi, upper), upper)
    middle = apply("sub", math.pi / 2, _asin_small(x))
    return apply("where", apply("gt", a, 0.5), mirrored, middle)


def expand_sinh(x: Expr) -> Expr:
    a = apply("abs", x)
    m = apply("expm1", apply("minimum", a, 40.0))
    usual = apply("mul", apply("add", m, apply("div", m, apply("add", m, 1.0))), 0.5)
    return with_sign_of(x, apply("where", apply("gt", a, 40.0), _half_exp(a), usual))


def expand_cosh(x: Expr) -> Expr:
    a = apply("abs", x)
    e = apply("exp", apply("minimum", a, 40.0))
    usual = apply("mul", apply("add", e, apply("div", 1.0, e)), 0.5)
    return apply("where", apply("gt", a, 40.0), _half_exp(a), usual)


def _half_exp(a: Expr) -> Expr:
    """exp(a) / 2 without overflow before the quotient does."""
    e = apply("exp", apply("mul", a, 0.5))
    return apply("mul", apply("mul", e, 0.5), e)


def expand_asinh(x: Expr) -> Expr:
    # log1p(a + a²/(1 + sqrt(a² + 1))); for large a log(a) + log 2.
    a = apply("abs", x)
    held = apply("minimum", a, 1e9)
    square = apply("mul", held, held)
    root = apply("add", apply("sqrt", apply("add", square, 1.0)), 1.0)
    usual = apply("log1p", apply("add", held, apply("div", square, root)))
    large = apply("add", apply("log", a), math.log(2.0))
    return with_sign_of(x, apply("where", apply("gt", a, 1e9), large, usual))


def expand_acosh(x: Expr) -> Expr:
    t = apply("sub", apply("minimum", x, 1e9), 1.0)
    root = apply("sqrt", apply("mul", t, apply("add", t, 2.0)))
    usual = apply("log1p", apply("add", t, root))
    large = apply("add", apply("log", x), math.log(2.0))
    value = apply("where", apply("gt", x, 1e9), large, usual)
    return apply("where", apply("lt", x, 1.0), const(math.nan), value)


def expand_atanh(x: Expr) -> Expr:
    a = apply("abs", x)
    ratio = apply("div", apply("mul", a, 2.0), apply("sub", 1.0, a))
    return with_sign_of(x, apply("mul", apply("log1p", ratio), 0.5))

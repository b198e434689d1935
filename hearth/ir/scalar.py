"""Scalar expressions: the vocabulary of every pointwise node and every kernel body.

A row of `SCALAR_OPS` says what an op means (its NumPy reference), which type it returns, and,
when it is not elementary, how to rewrite it with simpler rows.  A target spells the rows it can
and gets the rest by `expand`, so a new op runs everywhere before anyone tunes it for one target.

Edge cases are PyTorch's: `maximum`, `minimum` propagate NaN, comparisons with NaN are false
except `ne`, integers wrap around, `round` is half to even.

Expressions are compared by identity and may share sub-expressions (they form a DAG).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32

Array = Any  # np.ndarray of any dtype; NumPy's own stubs lose it on every operator


@dataclass(frozen=True, eq=False, slots=True)
class Expr:
    """Base of all scalar expressions."""

    dtype: str


@dataclass(frozen=True, eq=False, slots=True)
class Const(Expr):
    value: float | int | bool


@dataclass(frozen=True, eq=False, slots=True)
class Arg(Expr):
    """The element of a pointwise node's k-th input (broadcast to the node's shape)."""

    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Coord(Expr):
    """The element's coordinate along an axis of the pointwise node; axis None is the linear index."""

    axis: int | None


@dataclass(frozen=True, eq=False, slots=True)
class BatchValue(Expr):
    """A number that depends on the batch size: `numerator(B) / denominator(B)`, as float32."""

    numerator: Any  # Dim
    denominator: Any  # Dim


@dataclass(frozen=True, eq=False, slots=True)
class Apply(Expr):
    op: str
    args: tuple[Expr, ...]


SAME = "same"  # the result has the type of the last argument


@dataclass(frozen=True)
class ScalarOp:
    name: str
    arity: int
    result: str
    reference: Callable[..., Array]
    expansion: Callable[..., Expr] | None = None


def const(value: float | int | bool, dtype: str = FLOAT32) -> Const:
    return Const(dtype, value)


def apply(op: str, *args: Expr | float | int | bool) -> Expr:
    """The op applied to expressions; a Python number takes the type of its neighbours.

    >>> apply("add", Arg("float32", 0), 1).dtype
    'float32'
    """
    row = SCALAR_OPS[op]
    assert len(args) == row.arity, f"{op} takes {row.arity} operands, got {len(args)}"
    typed = [a for a in args if isinstance(a, Expr)]
    last = typed[-1].dtype if typed else FLOAT32
    operands = tuple(a if isinstance(a, Expr) else Const(last, a) for a in args)
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


# ---------------------------------------------------------------- expansions


def _expand_rsqrt(x: Expr) -> Expr:
    return apply("div", 1.0, apply("sqrt", x))


def _expand_sigmoid(x: Expr) -> Expr:
    # 1 / (1 + exp(-|x|)) on the positive side, mirrored: exp never overflows.
    e = apply("exp", apply("neg", apply("abs", x)))
    numerator = apply("where", apply("ge", x, 0.0), const(1.0), e)
    return apply("div", numerator, apply("add", e, 1.0))


def _expand_tanh(x: Expr) -> Expr:
    # -expm1(-2|x|) / (2 + expm1(-2|x|)): no overflow and no cancellation near 0.
    m = apply("expm1", apply("mul", apply("abs", x), -2.0))
    positive = apply("div", apply("neg", m), apply("add", m, 2.0))
    return apply("where", apply("lt", x, 0.0), apply("neg", positive), positive)


def _expand_log1p(x: Expr) -> Expr:
    # Goldberg 1991, theorem 4: log(u)·x/(u-1) with u = 1 + x corrects the rounding of u.
    u = apply("add", x, 1.0)
    d = apply("sub", u, 1.0)
    corrected = apply("mul", apply("log", u), apply("div", x, d))
    usual = apply("where", apply("eq", d, 0.0), x, corrected)
    infinite = apply("eq", u, math.inf)
    return apply("where", infinite, u, usual)


def _expand_expm1(x: Expr) -> Expr:
    # Near 0 the Taylor polynomial (relative error < 1e-8 for |x| < 0.35); elsewhere exp(x) - 1.
    terms = [1.0 / math.factorial(k) for k in range(9, 0, -1)]
    series: Expr = const(terms[0])
    for c in terms[1:]:
        series = apply("add", apply("mul", series, x), c)
    near = apply("lt", apply("abs", x), 0.35)
    return apply("where", near, apply("mul", series, x), apply("sub", apply("exp", x), 1.0))


# Rational minimax approximations of erf by W. J. Cody, Math. Comp. 23 (1969).
_ERF_P = (3.209377589138469472562e03, 3.774852376853020208137e02, 1.138641541510501556495e02,
          3.161123743870565596947e00, 1.857777061846031526730e-01)  # fmt: skip
_ERF_Q = (2.844236833439170622273e03, 1.282616526077372275645e03, 2.440246379344441733056e02,
          2.360129095234412093499e01, 1.0)  # fmt: skip
_ERFC_P = (1.23033935479799725272e03, 2.05107837782607146532e03, 1.71204761263407058314e03,
           8.81952221241769090411e02, 2.98635138197400131132e02, 6.61191906371416294775e01,
           8.88314979438837594118e00, 5.64188496988670089180e-01, 2.15311535474403846343e-08)  # fmt: skip
_ERFC_Q = (1.23033935480374942043e03, 3.43936767414372163696e03, 4.36261909014324715820e03,
           3.29079923573345962678e03, 1.62138957456669018874e03, 5.37181101862009857509e02,
           1.17693950891312499305e02, 1.57449261107098347253e01, 1.0)  # fmt: skip


def _polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    value: Expr = const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = apply("add", apply("mul", value, x), c)
    return value


def _expand_erf(x: Expr) -> Expr:
    a = apply("abs", x)
    z = apply("mul", x, x)
    small = apply("mul", x, apply("div", _polynomial(z, _ERF_P), _polynomial(z, _ERF_Q)))
    bounded = apply("minimum", a, 4.0)
    tail = apply("div", _polynomial(bounded, _ERFC_P), _polynomial(bounded, _ERFC_Q))
    gauss = apply("exp", apply("neg", apply("mul", bounded, bounded)))
    large = apply("sub", const(1.0), apply("mul", gauss, tail))
    signed = apply("where", apply("lt", x, 0.0), apply("neg", large), large)
    return apply("where", apply("gt", a, 0.46875), signed, small)


def _expand_pow(x: Expr, y: Expr) -> Expr:
    """C's powf for |y| < 2**31: sign and parity are handled apart from exp(y·log|x|)."""
    magnitude = apply("exp", apply("mul", y, apply("log", apply("abs", x))))
    whole = apply("eq", apply("trunc", y), y)
    half = apply("mul", y, 0.5)
    odd = apply("and", whole, apply("ne", apply("trunc", half), half))
    signed = apply("where", odd, apply("neg", magnitude), magnitude)
    negative = apply("where", whole, signed, const(math.nan))
    value = apply("where", apply("lt", x, 0.0), negative, magnitude)
    is_one = apply("or", apply("eq", y, 0.0), apply("eq", x, 1.0))
    return apply("where", is_one, const(1.0), value)


def _expand_sign(x: Expr) -> Expr:
    if x.dtype != FLOAT32:
        one, zero = Const(x.dtype, 1), Const(x.dtype, 0)
        negative = apply("where", apply("lt", x, 0), Const(x.dtype, -1), zero)
        return apply("where", apply("gt", x, 0), one, negative)
    negative = apply("where", apply("lt", x, 0.0), const(-1.0), const(0.0))
    value = apply("where", apply("gt", x, 0.0), const(1.0), negative)
    return apply("where", apply("is_nan", x), x, value)


def _expand_gelu(x: Expr) -> Expr:
    phi = apply("add", apply("erf", apply("mul", x, math.sqrt(0.5))), 1.0)
    return apply("mul", apply("mul", x, 0.5), phi)


# Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)


def _expand_random(key0: Expr, key1: Expr, step: Expr, stream: Expr, index: Expr) -> Expr:
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


def _expand_mul_high(a: Expr, b: Expr) -> Expr:
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


# ---------------------------------------------------------------- NumPy meanings

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _reference_erf(x: Array) -> Array:
    return _erf(x).astype(x.dtype) if x.size else x


def _reference_div(a: Array, b: Array) -> Array:
    return np.true_divide(a, b, dtype=np.result_type(a))


def _reference_sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _reference_mul_high(a: Array, b: Array) -> Array:
    return ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _reference_random(k0: Array, k1: Array, step: Array, stream: Array, index: Array) -> Array:
    from hearth.ir.philox import random_words

    return random_words(k0, k1, step, stream, index)


def _reference_gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _reference_erf(x * x.dtype.type(math.sqrt(0.5))))


def _to(dtype: Any) -> Callable[[Array], Array]:
    return lambda x: np.asarray(x).astype(dtype)


def _floor_div(a: Array, b: Array) -> Array:
    return np.floor_divide(a, np.where(b == 0, 1, b))


SCALAR_OPS: dict[str, ScalarOp] = {
    row.name: row
    for row in [
        ScalarOp("add", 2, SAME, np.add),
        ScalarOp("sub", 2, SAME, np.subtract),
        ScalarOp("mul", 2, SAME, np.multiply),
        ScalarOp("div", 2, SAME, _reference_div),
        ScalarOp("floor_div", 2, SAME, _floor_div),
        ScalarOp("neg", 1, SAME, np.negative),
        ScalarOp("abs", 1, SAME, np.abs),
        ScalarOp("maximum", 2, SAME, np.maximum),
        ScalarOp("minimum", 2, SAME, np.minimum),
        ScalarOp("sqrt", 1, SAME, np.sqrt),
        ScalarOp("rsqrt", 1, SAME, lambda x: 1 / np.sqrt(x), _expand_rsqrt),
        ScalarOp("exp", 1, SAME, np.exp),
        ScalarOp("expm1", 1, SAME, np.expm1, _expand_expm1),
        ScalarOp("log", 1, SAME, np.log),
        ScalarOp("log1p", 1, SAME, np.log1p, _expand_log1p),
        ScalarOp("pow", 2, SAME, np.power, _expand_pow),
        ScalarOp("sin", 1, SAME, np.sin),
        ScalarOp("cos", 1, SAME, np.cos),
        ScalarOp("tanh", 1, SAME, np.tanh, _expand_tanh),
        ScalarOp("sigmoid", 1, SAME, _reference_sigmoid, _expand_sigmoid),
        ScalarOp("erf", 1, SAME, _reference_erf, _expand_erf),
        ScalarOp("gelu", 1, SAME, _reference_gelu, _expand_gelu),
        ScalarOp("floor", 1, SAME, np.floor),
        ScalarOp("ceil", 1, SAME, np.ceil),
        ScalarOp("trunc", 1, SAME, np.trunc),
        ScalarOp("round", 1, SAME, np.round),
        ScalarOp("sign", 1, SAME, np.sign, _expand_sign),
        ScalarOp("is_nan", 1, BOOL, np.isnan),
        ScalarOp("eq", 2, BOOL, np.equal),
        ScalarOp("ne", 2, BOOL, np.not_equal),
        ScalarOp("lt", 2, BOOL, np.less),
        ScalarOp("le", 2, BOOL, np.less_equal),
        ScalarOp("gt", 2, BOOL, np.greater),
        ScalarOp("ge", 2, BOOL, np.greater_equal),
        ScalarOp("and", 2, BOOL, np.logical_and),
        ScalarOp("or", 2, BOOL, np.logical_or),
        ScalarOp("not", 1, BOOL, np.logical_not),
        ScalarOp("where", 3, SAME, np.where),
        ScalarOp("bit_and", 2, SAME, np.bitwise_and),
        ScalarOp("bit_or", 2, SAME, np.bitwise_or),
        ScalarOp("bit_xor", 2, SAME, np.bitwise_xor),
        ScalarOp("shift_left", 2, SAME, np.left_shift),
        ScalarOp("shift_right", 2, SAME, np.right_shift),
        ScalarOp("mul_high", 2, UINT32, _reference_mul_high, _expand_mul_high),
        ScalarOp("random", 5, UINT32, _reference_random, _expand_random),
        ScalarOp("to_float32", 1, FLOAT32, _to(np.float32)),
        ScalarOp("to_int32", 1, INT32, _to(np.int32)),
        ScalarOp("to_uint32", 1, UINT32, _to(np.uint32)),
        ScalarOp("to_bool", 1, BOOL, _to(np.bool_)),
    ]
}

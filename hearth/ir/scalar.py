"""The vocabulary of scalar expressions: one row per function of numbers.

A row of `SCALAR_OPS` says what an op means (its NumPy reference), which type it returns, and,
when it is not elementary, how to rewrite it with simpler rows.  A target spells the rows it can
and gets the rest by `expand`, so a new op runs everywhere before anyone tunes it for one target.

Edge cases are PyTorch's: `maximum`, `minimum` propagate NaN, comparisons with NaN are false
except `ne`, the sign of NaN is 0, integers wrap around, `round` is half to even.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hearth.ir import expansions
from hearth.ir import expansions_halves as halves
from hearth.ir import expansions_trigonometric as trigonometric
from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32
from hearth.ir.expr import (
    SAME,
    SCALAR_OPS,
    Apply,
    Arg,
    Array,
    BatchValue,
    Const,
    Coord,
    Expr,
    Scalar,
    ScalarOp,
    apply,
    cast,
    const,
    expand,
    operands,
    rewrite,
    walk,
)

__all__ = [
    "SAME", "SCALAR_OPS", "Apply", "Arg", "BatchValue", "Const", "Coord", "Expr", "Scalar",
    "ScalarOp", "apply", "cast", "const", "expand", "operands", "rewrite", "walk",
]  # fmt: skip

# ---------------------------------------------------------------- NumPy meanings

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _reference_erf(x: Array) -> Array:
    return _erf(x).astype(x.dtype) if x.size else x


def _reference_erfc(x: Array) -> Array:
    return _erfc(x).astype(x.dtype) if x.size else x


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


def _reference_sign(x: Array) -> Array:
    return (np.greater(x, 0).astype(np.int8) - np.less(x, 0)).astype(np.result_type(x))


def _to(dtype: Any) -> Callable[[Array], Array]:
    return lambda x: np.asarray(x).astype(dtype)


def _to_integer(dtype: Any) -> Callable[[Array], Array]:
    """Truncates; a float out of range saturates and NaN gives 0 (PyTorch leaves both undefined)."""
    limits = np.iinfo(dtype)

    def convert(x: Array) -> Array:
        x = np.asarray(x)
        if x.dtype.kind == "f":
            x = np.clip(np.nan_to_num(x.astype(np.float64), posinf=np.inf, neginf=-np.inf),
                        limits.min, limits.max)  # fmt: skip
        return x.astype(dtype)

    return convert


def _bits_of_float(x: Array) -> Array:
    return np.asarray(x).astype(np.float32).view(np.uint32)


def _float_of_bits(x: Array) -> Array:
    return np.asarray(x, np.uint32).view(np.float32)


def _round_float16(x: Array) -> Array:
    x = np.asarray(x)
    return x.astype(np.float16).astype(x.dtype)


def _round_bfloat16(x: Array) -> Array:
    x = np.asarray(x)
    bits = _bits_of_float(x).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)


def _guarded(divide: Callable[..., Array]) -> Callable[..., Array]:
    """Integer division by zero counts as division by one: it must not trap."""

    def safe(a: Array, b: Array) -> Array:
        b = np.asarray(b)
        return divide(a, b if b.dtype.kind == "f" else np.where(b == 0, b.dtype.type(1), b))

    return safe


SCALAR_OPS.update(
    (row.name, row)
    for row in [
        ScalarOp("add", 2, SAME, np.add),
        ScalarOp("sub", 2, SAME, np.subtract),
        ScalarOp("mul", 2, SAME, np.multiply),
        ScalarOp("div", 2, SAME, _reference_div),
        ScalarOp("floor_div", 2, SAME, _guarded(np.floor_divide)),
        ScalarOp("fmod", 2, SAME, _guarded(np.fmod), expansions.expand_fmod),
        ScalarOp("remainder", 2, SAME, _guarded(np.remainder), expansions.expand_remainder),
        ScalarOp("neg", 1, SAME, np.negative),
        ScalarOp("abs", 1, SAME, np.abs),
        ScalarOp("maximum", 2, SAME, np.maximum),
        ScalarOp("minimum", 2, SAME, np.minimum),
        ScalarOp("sqrt", 1, SAME, np.sqrt),
        ScalarOp("rsqrt", 1, SAME, lambda x: 1 / np.sqrt(x), expansions.expand_rsqrt),
        ScalarOp("exp", 1, SAME, np.exp),
        ScalarOp("expm1", 1, SAME, np.expm1, expansions.expand_expm1),
        ScalarOp("log", 1, SAME, np.log),
        ScalarOp("log1p", 1, SAME, np.log1p, expansions.expand_log1p),
        ScalarOp("log2", 1, SAME, np.log2, expansions.expand_log2),
        ScalarOp("log10", 1, SAME, np.log10, expansions.expand_log10),
        ScalarOp("pow", 2, SAME, np.power, expansions.expand_pow),
        ScalarOp("sin", 1, SAME, np.sin),
        ScalarOp("cos", 1, SAME, np.cos),
        ScalarOp("tan", 1, SAME, np.tan, trigonometric.expand_tan),
        ScalarOp("asin", 1, SAME, np.arcsin, trigonometric.expand_asin),
        ScalarOp("acos", 1, SAME, np.arccos, trigonometric.expand_acos),
        ScalarOp("atan", 1, SAME, np.arctan, trigonometric.expand_atan),
        ScalarOp("atan2", 2, SAME, np.arctan2, trigonometric.expand_atan2),
        ScalarOp("sinh", 1, SAME, np.sinh, trigonometric.expand_sinh),
        ScalarOp("cosh", 1, SAME, np.cosh, trigonometric.expand_cosh),
        ScalarOp("tanh", 1, SAME, np.tanh, expansions.expand_tanh),
        ScalarOp("asinh", 1, SAME, np.arcsinh, trigonometric.expand_asinh),
        ScalarOp("acosh", 1, SAME, np.arccosh, trigonometric.expand_acosh),
        ScalarOp("atanh", 1, SAME, np.arctanh, trigonometric.expand_atanh),
        ScalarOp("sigmoid", 1, SAME, _reference_sigmoid, expansions.expand_sigmoid),
        ScalarOp("erf", 1, SAME, _reference_erf, expansions.expand_erf),
        ScalarOp("erfc", 1, SAME, _reference_erfc, expansions.expand_erfc),
        ScalarOp("gelu", 1, SAME, _reference_gelu, expansions.expand_gelu),
        ScalarOp("floor", 1, SAME, np.floor),
        ScalarOp("ceil", 1, SAME, np.ceil),
        ScalarOp("trunc", 1, SAME, np.trunc),
        ScalarOp("round", 1, SAME, np.round),
        ScalarOp("sign", 1, SAME, _reference_sign, expansions.expand_sign),
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
        ScalarOp("mul_high", 2, UINT32, _reference_mul_high, expansions.expand_mul_high),
        ScalarOp("random", 5, UINT32, _reference_random, expansions.expand_random),
        ScalarOp("bits_of_float", 1, UINT32, _bits_of_float),
        ScalarOp("float_of_bits", 1, FLOAT32, _float_of_bits),
        ScalarOp("round_float16", 1, SAME, _round_float16, halves.expand_round_float16),
        ScalarOp("round_bfloat16", 1, SAME, _round_bfloat16, halves.expand_round_bfloat16),
        ScalarOp("to_float32", 1, FLOAT32, _to(np.float32)),
        ScalarOp("to_int32", 1, INT32, _to_integer(np.int32)),
        ScalarOp("to_uint32", 1, UINT32, _to_integer(np.uint32)),
        ScalarOp("to_bool", 1, BOOL, _to(np.bool_)),
    ]
)

"""Every scalar op as WGSL, on special values, against its NumPy meaning in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hearth.codegen.wgsl.spelling import literal
from hearth.ir.dtype import BOOL, FLOAT32, INT32, STORED_AS, UINT32
from hearth.ir.scalar import SCALAR_OPS, Const, apply
from hearth.ir.scalar_types import operands_allowed
from tests.codegen.wgsl.adapter import Adapter
from tests.codegen.wgsl.cases import SMALLEST_NORMAL, SPECIAL, assert_close, map_kernel

FLOAT32_MAX = float(np.finfo(np.float32).max)

pytestmark = pytest.mark.webgpu
Array = Any
RANDOM_VALUES = 20000

# Largest error in units in the last place; ops that are not listed are exact.
ULPS = {
    "add": 0.5, "sub": 0.5, "mul": 0.5, "div": 2.5, "sqrt": 2, "rsqrt": 3, "exp": 2, "expm1": 4,
    "log": 2, "log1p": 4, "log2": 4, "log10": 4, "sin": 4, "cos": 4, "tan": 6, "asin": 4,
    "acos": 4, "atan": 4, "atan2": 4, "sinh": 6, "cosh": 6, "tanh": 4, "asinh": 4, "acosh": 4,
    "atanh": 4, "sigmoid": 4, "erf": 6, "erfc": 8, "to_float32": 0.5,
}  # fmt: skip
# The error of y·log|x| is magnified by the exponential, as float32 must.
POW_ULPS = 160
# 0.5·x·(1 + erf) cancels for negative x, in PyTorch's float32 too: relative to |x|.
CANCELLING = ("gelu",)
# Quotients next to an integer round to the other side of it: compared where they cannot.
DISCONTINUOUS = ("floor_div", "fmod", "remainder")

FLOAT_OPS = [
    op for op in SCALAR_OPS
    if FLOAT32 in operands_allowed(op) and op not in (*DISCONTINUOUS, "where")
]  # fmt: skip


def float_inputs(arity: int) -> list[Array]:
    """All pairs of special values, then random ones over 24 powers of ten."""
    random = np.random.default_rng(0)
    grids = np.meshgrid(*[SPECIAL] * arity)
    scale = np.exp(random.uniform(-28, 28, RANDOM_VALUES))
    wide = random.standard_normal(RANDOM_VALUES) * scale
    narrow = random.uniform(-4, 4, RANDOM_VALUES)
    return [
        np.concatenate([g.ravel(), random.permutation(wide), random.permutation(narrow)]).astype(
            np.float32
        )
        for g in grids
    ]


def run(adapter: Adapter, op: str, dtype: str, inputs: list[Array]) -> Array:
    kernel = map_kernel(lambda *x: apply(op, *x), [dtype] * len(inputs), inputs[0].size)
    out = np.zeros(inputs[0].size, STORED_AS[kernel.params[-1].dtype])
    stored = [x.astype(STORED_AS[dtype]) for x in inputs]
    return adapter.run(kernel, [*stored, out], 1)[-1]


def meaning(op: str, inputs: list[Array]) -> Array:
    with np.errstate(all="ignore"):
        return SCALAR_OPS[op].reference(*inputs)


@pytest.mark.parametrize("op", FLOAT_OPS)
def test_a_function_of_floats_means_what_numpy_says(adapter: Adapter, op: str) -> None:
    inputs = float_inputs(SCALAR_OPS[op].arity)
    got = run(adapter, op, FLOAT32, inputs)
    # What is tiny may be flushed to zero before the function is applied.
    flushed = any_tiny(inputs)
    expected = meaning(op, [x.astype(np.float64) for x in inputs])
    if got.dtype != np.float32:
        np.testing.assert_array_equal(got[~flushed], expected[~flushed].astype(got.dtype))
        return
    with np.errstate(over="ignore", invalid="ignore"):
        ulp = np.spacing(np.abs(expected.astype(np.float32))).astype(np.float64)
    ulps = POW_ULPS if op == "pow" else ULPS.get(op, 0)
    tolerance = ulps * np.nan_to_num(ulp, nan=0, posinf=0) * 1.001 + SMALLEST_NORMAL
    if op in CANCELLING:
        tolerance = 4 * 2.0**-24 * np.abs(np.nan_to_num(inputs[0])) + SMALLEST_NORMAL
    at = ~flushed & ~about_to_overflow(expected)
    assert_close(got[at], expected[at], tolerance[at], op)


def any_tiny(inputs: list[Array]) -> Array:
    return np.any([(np.abs(x) < SMALLEST_NORMAL) & (x != 0) for x in inputs], axis=0)


def about_to_overflow(expected: Array) -> Array:
    """Within a rounding of the largest float, infinity is as good."""
    return np.isfinite(expected) & (np.abs(expected) > 3.4e38)


@pytest.mark.parametrize("op", DISCONTINUOUS)
def test_remainders_of_floats_are_exact_where_the_quotient_is(adapter: Adapter, op: str) -> None:
    random = np.random.default_rng(1)
    y = random.integers(1, 50, 4000) * random.choice([-1, 1], 4000)
    x = random.integers(-2000, 2000, 4000) + random.choice([0.25, 0.5], 4000)
    inputs = [x.astype(np.float32), y.astype(np.float32)]
    got = run(adapter, op, FLOAT32, inputs)
    expected = meaning(op, [v.astype(np.float64) for v in inputs])
    tolerance = 1e-7 * np.abs(x) if op != "floor_div" else 0.0
    assert_close(got, expected, tolerance, op)


INTEGERS = np.array(
    [0, 1, -1, 2, -2, 3, 7, -7, 255, 65535, 65536, 2**31 - 1, -(2**31), -(2**31) + 1, 12345678]
)


def integer_inputs(arity: int, dtype: str) -> list[Array]:
    random = np.random.default_rng(2)
    grids = np.meshgrid(*[INTEGERS] * min(arity, 2))
    columns = [np.concatenate([g.ravel(), random.integers(-(2**31), 2**31, 2000)]) for g in grids]
    columns += [random.permutation(columns[0]) for _ in range(arity - len(columns))]
    as_bits = [c.astype(np.int64).astype(np.uint32) for c in columns]
    return [c.view(np.int32) if dtype == INT32 else c for c in as_bits]


INTEGER_OPS = [
    (op, dtype)
    for op in SCALAR_OPS
    for dtype in (INT32, UINT32)
    if dtype in operands_allowed(op) and op not in ("where", "pow", "div")
]


@pytest.mark.parametrize(("op", "dtype"), INTEGER_OPS)
def test_a_function_of_integers_is_exact(adapter: Adapter, op: str, dtype: str) -> None:
    inputs = integer_inputs(SCALAR_OPS[op].arity, dtype)
    if op.startswith("shift"):
        inputs[1] = inputs[1] & 31
    if op in ("floor_div", "fmod", "remainder"):
        # The quotient of the smallest integer by -1 does not exist.
        keep = ~((inputs[0] == -(2**31)) & (inputs[1] == -1)) & (inputs[0] != -(2**31))
        inputs = [x[keep & (inputs[1] != -(2**31))] for x in inputs]
    got = run(adapter, op, dtype, inputs)
    expected = meaning(op, inputs)
    np.testing.assert_array_equal(got, np.asarray(expected).astype(got.dtype))


BOOLEAN_OPS = [op for op in SCALAR_OPS if BOOL in operands_allowed(op) and op != "where"]


@pytest.mark.parametrize("op", BOOLEAN_OPS)
def test_a_function_of_booleans_is_exact(adapter: Adapter, op: str) -> None:
    grids = np.meshgrid(*[np.array([False, True])] * SCALAR_OPS[op].arity)
    inputs = [g.ravel() for g in grids]
    got = run(adapter, op, BOOL, inputs)
    np.testing.assert_array_equal(got, np.asarray(meaning(op, inputs)).astype(got.dtype))


@pytest.mark.parametrize("dtype", [FLOAT32, INT32, UINT32, BOOL])
def test_where_selects_by_a_boolean(adapter: Adapter, dtype: str) -> None:
    condition = np.array([0, 1, 0, 1, 1], np.int32)
    a = np.array([1, 0, 1, 1, 0]).astype(STORED_AS[dtype])
    b = np.array([0, 1, 1, 0, 0]).astype(STORED_AS[dtype])
    kernel = map_kernel(lambda c, x, y: apply("where", c, x, y), [BOOL, dtype, dtype], 5)
    got = adapter.run(kernel, [condition, a, b, np.zeros_like(a)], 1)[-1]
    np.testing.assert_array_equal(got, np.where(condition != 0, a, b))


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 1.0, -1.5, 0.1, 1e-20, FLOAT32_MAX, np.inf, -np.inf, np.nan, 16777217.0, 1e-40],
)
def test_a_float_constant_keeps_its_value(adapter: Adapter, value: float) -> None:
    kernel = map_kernel(lambda x: apply("mul", x, value), [FLOAT32], 3)
    got = adapter.run(kernel, [np.ones(3, np.float32), np.zeros(3, np.float32)], 1)[-1]
    expected = np.full(3, np.float32(value))
    assert_close(got, expected, SMALLEST_NORMAL, "constant")


def test_the_largest_float_is_not_spelled_above_itself() -> None:
    # Browsers refuse a decimal beyond the largest float, also where it would round to it.
    assert float(literal(FLOAT32_MAX, FLOAT32)) == FLOAT32_MAX
    assert float(literal(-FLOAT32_MAX, FLOAT32)) == -FLOAT32_MAX


@pytest.mark.parametrize("value", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_an_integer_constant_keeps_its_value(adapter: Adapter, value: int) -> None:
    kernel = map_kernel(lambda x: apply("add", x, Const(INT32, value)), [INT32], 3)
    got = adapter.run(kernel, [np.zeros(3, np.int32), np.zeros(3, np.int32)], 1)[-1]
    np.testing.assert_array_equal(got, np.full(3, value, np.int32))


def test_constants_among_themselves_are_folded(adapter: Adapter) -> None:
    infinite = apply("div", Const(FLOAT32, 1.0), Const(FLOAT32, 0.0))
    kernel = map_kernel(lambda x: apply("add", x, infinite), [FLOAT32], 2)
    got = adapter.run(kernel, [np.ones(2, np.float32), np.zeros(2, np.float32)], 1)[-1]
    assert np.isposinf(got).all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_constant_zero_divided_is_what_it_is_for_a_variable(
    adapter: Adapter, zero: float
) -> None:
    kernel = map_kernel(lambda x: apply("div", zero, x), [FLOAT32], len(SPECIAL))
    x = np.array(SPECIAL, np.float32)
    got = adapter.run(kernel, [x, np.empty_like(x)], 1)[-1]
    with np.errstate(all="ignore"):
        expected = np.float32(zero) / x
    np.testing.assert_array_equal(got, expected)

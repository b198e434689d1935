"""The NumPy meaning of every scalar op against PyTorch, at the values where libraries differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32
from hearth.ir.reference import evaluate
from hearth.ir.scalar import SCALAR_OPS, Arg, apply
from tests.scalars.values import INTEGERS, SPECIAL, near_halves, pairs, spread

FLOAT_UNARY: dict[str, Callable[..., torch.Tensor]] = {
    name: getattr(torch, name)
    for name in (
        "neg", "abs", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin",
        "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        "sigmoid", "erf", "erfc", "floor", "ceil", "trunc", "round", "sign",
    )
} | {"gelu": torch.nn.functional.gelu, "is_nan": torch.isnan}  # fmt: skip
FLOAT_BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "fmod": torch.fmod,
    "remainder": torch.remainder, "floor_div": torch.floor_divide, "maximum": torch.maximum,
    "minimum": torch.minimum, "pow": torch.pow, "atan2": torch.atan2, "eq": torch.eq,
    "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
}  # fmt: skip
INTEGER_UNARY = {"neg": torch.neg, "abs": torch.abs, "sign": torch.sign}
INTEGER_BINARY: dict[str, Callable[..., torch.Tensor]] = {
    **{n: FLOAT_BINARY[n] for n in ("add", "sub", "mul", "maximum", "minimum", "eq", "ne", "lt",
                                    "le", "gt", "ge")},
    "bit_and": torch.bitwise_and, "bit_or": torch.bitwise_or, "bit_xor": torch.bitwise_xor,
}  # fmt: skip
DIVISIONS = {n: FLOAT_BINARY[n] for n in ("fmod", "remainder", "floor_div")}
SHIFTS = {"shift_left": torch.bitwise_left_shift, "shift_right": torch.bitwise_right_shift}
LOGICAL = {"and": torch.logical_and, "or": torch.logical_or, "not": torch.logical_not}
UNSIGNED = ("mul_high", "random")  # PyTorch has neither: see test_random_words.py
HALVES = {"round_float16": torch.float16, "round_bfloat16": torch.bfloat16}
BITS = ("bits_of_float", "float_of_bits")
CASTS = tuple(f"to_{dtype}" for dtype in (FLOAT32, INT32, UINT32, BOOL))


def value(op: str, dtype: str, *arrays: Any, floats: Any = np.float64) -> Any:
    expr = apply(op, *(Arg(dtype, k) for k in range(len(arrays))))
    with np.errstate(all="ignore"):
        return evaluate(expr, lambda leaf: arrays[leaf.position], floats)  # type: ignore[attr-defined]


def assert_same(ours: Any, want: torch.Tensor, epsilon: float) -> None:
    expected = want.numpy()
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(ours, expected)
        return
    np.testing.assert_allclose(ours, expected, rtol=4 * epsilon, atol=1e-45)
    zero = (expected == 0) & (ours == 0)
    np.testing.assert_array_equal(np.signbit(ours)[zero], np.signbit(expected)[zero])


def test_every_row_is_tested() -> None:
    tested = {*FLOAT_UNARY, *FLOAT_BINARY, *INTEGER_BINARY, *SHIFTS, *LOGICAL, *UNSIGNED, *CASTS}
    assert tested | {"where", *HALVES, *BITS} == set(SCALAR_OPS)


@pytest.mark.parametrize("op", FLOAT_UNARY)
def test_a_function_of_one_float_is_pytorchs(op: str) -> None:
    x = SPECIAL.astype(np.float64)
    assert_same(value(op, FLOAT32, x), FLOAT_UNARY[op](torch.from_numpy(x)), 2.0**-52)


@pytest.mark.parametrize("op", FLOAT_BINARY)
def test_a_function_of_two_floats_is_pytorchs(op: str) -> None:
    a, b = (v.astype(np.float64) for v in pairs(SPECIAL))
    if op in ("maximum", "minimum"):  # which zero wins is not defined
        a, b = a + 0.0, b + 0.0
    ours = value(op, FLOAT32, a, b)
    want = FLOAT_BINARY[op](torch.from_numpy(a), torch.from_numpy(b))
    if op == "remainder":  # the sign of a zero remainder differs between NumPy and PyTorch
        ours, want = ours + 0.0, want + 0.0
    if op == "floor_div":
        defined = np.isfinite(a) & np.isfinite(b) & (b != 0)
        ours, want = ours[defined] + 0.0, want[torch.from_numpy(defined)] + 0.0
    assert_same(ours, want, 2.0**-52)


@pytest.mark.parametrize("op", INTEGER_UNARY)
def test_a_function_of_one_integer_is_pytorchs(op: str) -> None:
    assert_same(value(op, INT32, INTEGERS), INTEGER_UNARY[op](torch.from_numpy(INTEGERS)), 0)


@pytest.mark.parametrize("op", INTEGER_BINARY)
def test_integers_wrap_around(op: str) -> None:
    a, b = pairs(INTEGERS)
    want = INTEGER_BINARY[op](torch.from_numpy(a), torch.from_numpy(b))
    assert_same(value(op, INT32, a, b), want, 0)


@pytest.mark.parametrize("op", DIVISIONS)
def test_integer_division_is_pytorchs_and_by_zero_does_not_trap(op: str) -> None:
    a, b = pairs(INTEGERS)
    defined = (b != 0) & ~((b == -1) & (a == -(2**31)))
    want = DIVISIONS[op](torch.from_numpy(a[defined]), torch.from_numpy(b[defined]))
    assert_same(value(op, INT32, a[defined], b[defined]), want, 0)
    by_one = value(op, INT32, a, np.ones_like(a))
    np.testing.assert_array_equal(value(op, INT32, a, np.zeros_like(a)), by_one)


@pytest.mark.parametrize("op", SHIFTS)
def test_a_shift_of_a_signed_integer_keeps_the_sign(op: str) -> None:
    a, b = np.repeat(INTEGERS, 32), np.tile(np.arange(32, dtype=np.int32), len(INTEGERS))
    assert_same(value(op, INT32, a, b), SHIFTS[op](torch.from_numpy(a), torch.from_numpy(b)), 0)


@pytest.mark.parametrize("op", LOGICAL)
def test_logic_is_pytorchs(op: str) -> None:
    a, b = pairs(np.array([False, True]))
    arrays = [a, b][: SCALAR_OPS[op].arity]
    assert_same(value(op, BOOL, *arrays), LOGICAL[op](*map(torch.from_numpy, arrays)), 0)


def test_a_choice_takes_no_value_from_the_other_side() -> None:
    expr = apply("where", Arg(BOOL, 0), Arg(FLOAT32, 1), Arg(FLOAT32, 2))
    condition = np.array([True, False])
    arrays = [condition, np.array([1.0, np.nan]), np.array([np.nan, 2.0])]
    got = evaluate(expr, lambda leaf: arrays[leaf.position], np.float64)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(got, [1.0, 2.0])


def test_a_float_becomes_an_integer_by_truncation_and_saturates() -> None:
    x = np.array([1.9, -1.9, -0.0, 2.0**31, -(2.0**40), np.inf, -np.inf, np.nan])
    want = [1, -1, 0, 2**31 - 1, -(2**31), 2**31 - 1, -(2**31), 0]
    np.testing.assert_array_equal(value("to_int32", FLOAT32, x), want)
    want = [1, 0, 0, 2**31, 0, 2**32 - 1, 0, 0]
    np.testing.assert_array_equal(value("to_uint32", FLOAT32, x), want)


def test_casts_between_integers_keep_the_bits_and_anything_but_zero_is_true() -> None:
    np.testing.assert_array_equal(value("to_uint32", INT32, INTEGERS), INTEGERS.view(np.uint32))
    words = INTEGERS.view(np.uint32)
    np.testing.assert_array_equal(value("to_int32", UINT32, words), INTEGERS)
    x = torch.from_numpy(SPECIAL)
    np.testing.assert_array_equal(value("to_bool", FLOAT32, SPECIAL), x.bool().numpy())
    np.testing.assert_array_equal(value("to_bool", INT32, INTEGERS), INTEGERS != 0)
    flags = np.array([False, True])
    np.testing.assert_array_equal(value("to_float32", BOOL, flags), [0.0, 1.0])
    assert value("to_float32", INT32, INTEGERS, floats=np.float32).dtype == np.float32


def test_results_stay_in_float32() -> None:
    for name, row in SCALAR_OPS.items():
        if name in FLOAT_UNARY or name in FLOAT_BINARY:
            arrays = [SPECIAL] * row.arity
            with np.errstate(all="ignore"):
                result = np.asarray(row.reference(*arrays))
            assert result.dtype == (np.bool_ if row.result == BOOL else np.float32), name


@pytest.mark.parametrize("op", HALVES)
def test_a_rounding_to_half_is_pytorchs(op: str) -> None:
    x = np.concatenate([SPECIAL, near_halves(), spread()])
    want = torch.from_numpy(x).to(HALVES[op]).float().numpy()
    ours = value(op, FLOAT32, x, floats=np.float32)
    np.testing.assert_array_equal(ours, want)
    known = ~np.isnan(x)
    np.testing.assert_array_equal(np.signbit(ours)[known], np.signbit(want)[known])


def test_the_bits_of_a_float_are_its_bits() -> None:
    words = value("bits_of_float", FLOAT32, SPECIAL, floats=np.float32)
    np.testing.assert_array_equal(words, SPECIAL.view(np.uint32))
    again = value("float_of_bits", UINT32, words, floats=np.float32)
    np.testing.assert_array_equal(again.view(np.uint32), words)

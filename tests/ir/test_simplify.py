"""Simplified expressions are shorter and mean the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.ir.dtype import BOOL, FLOAT32, INT32
from hearth.ir.reference import evaluate
from hearth.ir.scalar import Apply, Arg, Const, Expr, apply, cast, const, walk
from hearth.ir.simplify import simplify

X, Y, N, M = Arg(FLOAT32, 0), Arg(FLOAT32, 1), Arg(INT32, 2), Arg(BOOL, 3)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, 3e38, 1e-40, np.inf, -np.inf, np.nan, 0.3], np.float32)
ARGUMENTS: list[Any] = [
    SPECIAL, SPECIAL[::-1].copy(),
    np.array([0, 1, -1, 7, 2**31 - 1, -(2**31), 3, 4, 5, 6], np.int32),
    np.arange(10) % 3 == 0,
]  # fmt: skip


def value(expr: Expr, floats: Any = np.float32) -> Any:
    with np.errstate(all="ignore"):
        result = evaluate(expr, lambda leaf: ARGUMENTS[leaf.position], floats)  # type: ignore[attr-defined]
    return np.broadcast_to(result, SPECIAL.shape)


def simple(expr: Expr) -> Expr:
    return simplify([expr])[0]


def ops(expr: Expr) -> list[str]:
    return [e.op for e in walk([expr]) if isinstance(e, Apply)]


REMOVED = {
    "x * 1": (apply("mul", X, 1.0), X),
    "1 * x": (apply("mul", 1.0, X), X),
    "x / 1": (apply("div", X, 1.0), X),
    "x - 0": (apply("sub", X, 0.0), X),
    "x + -0": (apply("add", X, -0.0), X),
    "n + 0": (apply("add", N, 0), N),
    "-(-x)": (apply("neg", apply("neg", X)), X),
    "not not m": (apply("not", apply("not", M)), M),
    "a cast to its own type": (Apply(FLOAT32, "to_float32", (X,)), X),
    "bool -> float -> bool": (cast(cast(M, FLOAT32), BOOL), M),
    "where(true, x, y)": (apply("where", const(True, BOOL), X, Y), X),
    "where(false, x, y)": (apply("where", const(False, BOOL), X, Y), Y),
    "where(m, x, x)": (apply("where", M, X, X), X),
    "m and true": (apply("and", M, const(True, BOOL)), M),
    "false or m": (apply("or", const(False, BOOL), M), M),
    "a constant condition": (apply("where", apply("lt", const(1.0), 2.0), X, Y), X),
}


@pytest.mark.parametrize(("before", "after"), REMOVED.values(), ids=REMOVED)
def test_what_does_nothing_disappears(before: Expr, after: Expr) -> None:
    assert simple(before) is after


def test_adding_zero_stays_because_minus_zero_would_change() -> None:
    assert ops(simple(apply("add", X, 0.0))) == ["add"]


def test_constants_fold_in_the_type_of_the_device() -> None:
    third = simple(apply("div", const(1.0), 3.0))
    assert isinstance(third, Const)
    assert third.value == np.float32(1 / 3)
    wrapped = simple(apply("add", Const(INT32, 2**31 - 1), 1))
    assert isinstance(wrapped, Const)
    assert wrapped.value == -(2**31)


@pytest.mark.parametrize("divisor", [2.0, 0.25, -8.0, 2.0**-100, 0.0, -0.0])
def test_division_by_a_power_of_two_or_zero_is_an_exact_multiplication(divisor: float) -> None:
    expr = apply("div", X, divisor)
    assert ops(simple(expr)) == ["mul"]
    np.testing.assert_array_equal(value(simple(expr)), value(expr))


@pytest.mark.parametrize("divisor", [3.0, 0.1, math.inf, 2.0**-127])
def test_other_divisions_stay(divisor: float) -> None:
    assert ops(simple(apply("div", X, divisor))) == ["div"]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.0, 0.5, -1.0])
def test_small_powers_are_products_and_roots(exponent: float) -> None:
    expr = apply("pow", X, exponent)
    assert "pow" not in ops(simple(expr))
    np.testing.assert_allclose(value(simple(expr)), value(expr), rtol=4e-7)


@pytest.mark.parametrize("exponent", [5.0, -2.0, 0.7])
def test_other_powers_stay(exponent: float) -> None:
    assert ops(simple(apply("pow", X, exponent))) == ["pow"]


def test_a_power_of_a_constant_is_one_exponential() -> None:
    expr = apply("pow", const(0.9), X)
    assert ops(simple(expr)) == ["mul", "exp"]
    steps = np.arange(1, 50, dtype=np.float32)
    for base in (0.0, 1.0, -2.0, math.inf):
        assert ops(simple(apply("pow", const(base), X))) == ["pow"]
    got = evaluate(simple(expr), lambda _: steps)
    np.testing.assert_allclose(got, 0.9 ** steps.astype(np.float64), rtol=2e-6)


def test_a_bias_correction_does_not_cancel() -> None:
    expr = apply("sub", 1.0, apply("pow", const(0.999), X))
    assert ops(simple(expr)) == ["mul", "expm1", "neg"]
    steps = np.arange(1, 2000, dtype=np.float32)
    exact = -np.expm1(steps.astype(np.float64) * math.log(0.999))
    got = evaluate(simple(expr), lambda _: steps)
    assert np.abs(got / exact - 1).max() < 4 * 2.0**-24 * (1 + 2)
    kept = simple(apply("sub", 1.0, apply("exp", X)))
    assert ops(kept) == ["exp", "sub"]


def test_what_is_shared_stays_shared() -> None:
    shared = apply("mul", apply("exp", X), 1.0)
    first, second = simplify([apply("add", shared, Y), apply("sub", shared, Y)])
    assert isinstance(first, Apply)
    assert isinstance(second, Apply)
    assert first.args[0] is second.args[0]


@st.composite
def expressions(draw: st.DrawFn) -> Expr:
    pool: list[Expr] = [X, Y, const(1.0), const(0.0), const(-0.0), const(2.0), const(0.5)]
    flags: list[Expr] = [M, const(True, BOOL), const(False, BOOL)]
    for _ in range(draw(st.integers(1, 8))):
        a, b = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
        flag = draw(st.sampled_from(flags))
        kind = draw(st.sampled_from(["add", "sub", "mul", "div", "neg", "abs", "where", "lt", "not",
                                     "and", "maximum", "floor"]))  # fmt: skip
        match kind:
            case "neg" | "abs" | "floor":
                pool.append(apply(kind, a))
            case "where":
                pool.append(apply(kind, flag, a, b))
            case "lt":
                flags.append(apply(kind, a, b))
            case "not":
                flags.append(apply(kind, flag))
            case "and":
                flags.append(apply(kind, flag, draw(st.sampled_from(flags))))
            case _:
                pool.append(apply(kind, a, b))
    return pool[-1]


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_a_simplified_expression_has_the_same_value(expr: Expr) -> None:
    before, after = value(expr), value(simple(expr))
    np.testing.assert_array_equal(before, after)
    numbers = ~np.isnan(before)
    np.testing.assert_array_equal(np.signbit(before)[numbers], np.signbit(after)[numbers])

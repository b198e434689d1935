"""Expansions in float32 against the op they replace, with bounds in units in the last place.

Elementary functions (`exp`, `log`, `sin`, `cos`) are taken as correctly rounded: what is measured
is the expansion.  Results below the smallest normal number may be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hearth.ir.dtype import FLOAT32, INT32, UINT32
from hearth.ir.reference import evaluate
from hearth.ir.scalar import SCALAR_OPS, Apply, Arg, Const, Expr, apply, expand, walk
from tests.scalars.values import INTEGERS, SPECIAL, near_halves, pairs, spread

ELEMENTARY = [name for name, row in SCALAR_OPS.items() if row.expansion is None]
EXACT = ("exp", "log", "sin", "cos")

# Measured on 200 000 arguments; the comment says where the largest error lies.
ULPS = {
    "rsqrt": 2.0,  # two roundings
    "expm1": 2.0,  # 0.2
    "log1p": 3.0,  # 32
    "log2": 2.0,
    "log10": 2.0,
    "tan": 2.5,
    "asin": 3.0,  # above 1/2
    "acos": 2.0,
    "atan": 3.5,  # 0.44
    "atan2": 3.5,
    "sinh": 3.0,  # 0.06
    "cosh": 2.5,
    "tanh": 2.0,  # above 0.625
    "asinh": 3.0,  # 0.1
    "acosh": 3.0,  # 1.03
    "atanh": 3.5,  # 0.015
    "sigmoid": 3.0,
    "erf": 5.0,  # above 0.46875
    "erfc": 7.0,  # 2.9
    "sign": 0.0,
    "round_float16": 0.0,
    "round_bfloat16": 0.0,
}
SIGN_OF_ZERO_IS_LOST = ("tanh",)
OTHERS = ("gelu", "pow", "fmod", "remainder", "mul_high", "random")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def in_float32(expr: Expr, arrays: list[Any]) -> Any:
    """Like `evaluate`, with correctly rounded elementary functions."""
    values: dict[int, Any] = {}
    for sub in walk([expr]):
        match sub:
            case Const(value=number):
                result = np.asarray(number, sub.dtype)
            case Apply(op=op, args=args):
                operands = [values[id(a)] for a in args]
                if op in EXACT:
                    operands = [o.astype(np.float64) for o in operands]
                result = np.asarray(SCALAR_OPS[op].reference(*operands)).astype(sub.dtype)
            case _:
                assert isinstance(sub, Arg)
                result = arrays[sub.position]
        values[id(sub)] = result
    return values[id(expr)]


def expanded(op: str, dtype: str, arrays: list[Any]) -> Any:
    whole = apply(op, *(Arg(dtype, k) for k in range(len(arrays))))
    return in_float32(expand([whole], ELEMENTARY)[0], arrays)


def meant(op: str, dtype: str, arrays: list[Any]) -> Any:
    whole = apply(op, *(Arg(dtype, k) for k in range(len(arrays))))
    exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    return evaluate(whole, lambda leaf: exact[leaf.position], np.float64)  # type: ignore[attr-defined]


def error_in_ulps(got: Any, want: Any) -> Any:
    """0 where both round to the same float32, or both are NaN."""
    rounded = want.astype(np.float32)
    spacing = np.spacing(np.maximum(np.abs(rounded), np.float32(1.1754944e-38)))
    error = np.abs(got.astype(np.float64) - want) / spacing.astype(np.float64)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def test_every_expansion_has_a_bound() -> None:
    expandable = {name for name, row in SCALAR_OPS.items() if row.expansion is not None}
    assert expandable == {*ULPS, *OTHERS}


@pytest.mark.parametrize("op", ULPS)
def test_an_expansion_is_as_accurate_as_it_says(op: str) -> None:
    x = np.concatenate([spread(), SPECIAL])
    arrays = [x] if SCALAR_OPS[op].arity == 1 else [x, np.random.default_rng(1).permutation(x)]
    error = error_in_ulps(expanded(op, FLOAT32, arrays), meant(op, FLOAT32, arrays))
    worst = int(error.argmax())
    assert error[worst] <= ULPS[op], [a[worst] for a in arrays]


@pytest.mark.parametrize("op", ["round_float16", "round_bfloat16"])
def test_a_rounding_to_half_is_exact_between_neighbours(op: str) -> None:
    x = near_halves()
    want = meant(op, FLOAT32, [x]).astype(np.float32)
    np.testing.assert_array_equal(expanded(op, FLOAT32, [x]), want)


@pytest.mark.parametrize("op", [op for op in ULPS if op not in SIGN_OF_ZERO_IS_LOST])
def test_an_expansion_keeps_the_sign_of_zero(op: str) -> None:
    arrays = [SPECIAL] if SCALAR_OPS[op].arity == 1 else list(pairs(SPECIAL))
    got, want = expanded(op, FLOAT32, arrays), meant(op, FLOAT32, arrays)
    zero = (got == 0) & (want == 0)
    np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero])


def test_gelu_errs_by_a_rounding_of_its_argument() -> None:
    x = np.concatenate([spread(), SPECIAL])
    got, want = expanded("gelu", FLOAT32, [x]), meant("gelu", FLOAT32, [x])
    finite = np.isfinite(x)
    assert (np.abs(got - want)[finite] <= 4 * np.spacing(np.abs(x[finite]))).all()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_pow_is_pytorchs_at_special_values() -> None:
    a, b = pairs(SPECIAL)
    known = np.abs(b) < 2.0**24  # beyond, every float32 is even
    arrays = [a[known | ~np.isfinite(b)], b[known | ~np.isfinite(b)]]
    got, want = expanded("pow", FLOAT32, arrays), meant("pow", FLOAT32, arrays).astype(np.float32)
    beyond_rounding = ~np.isfinite(want) | (np.abs(want) < 3.4e38)
    got, want = got[beyond_rounding], want[beyond_rounding]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(want[~np.isnan(got)]))


def test_the_error_of_pow_grows_with_the_exponent_of_its_result() -> None:
    generator = np.random.default_rng(0)
    x = np.exp(generator.uniform(-80, 80, 100_000)).astype(np.float32)
    y = generator.uniform(-10, 10, 100_000).astype(np.float32)
    got, want = expanded("pow", FLOAT32, [x, y]), meant("pow", FLOAT32, [x, y])
    size = np.abs(y * np.log(x))
    inside = size < 87
    error = np.abs(got - want)[inside] / want[inside]
    assert (error <= 2.0**-23 * (1 + 1.5 * size[inside])).all()


def test_float_remainders_err_by_a_rounding_of_the_dividend() -> None:
    generator = np.random.default_rng(0)
    y = generator.uniform(-9, 9, 50_000).astype(np.float32)
    x = (y * generator.uniform(-1e4, 1e4, 50_000)).astype(np.float32)
    for op in ("fmod", "remainder"):
        got, want = expanded(op, FLOAT32, [x, y]), meant(op, FLOAT32, [x, y])
        # Next to a multiple of y the two sides of it are equally right.
        error = np.abs(got - want)
        error = np.minimum(error, np.abs(np.abs(y) - error))
        assert (error <= np.spacing(np.abs(x))).all()
        assert (np.abs(got) <= np.abs(y)).all()


def test_float_remainders_of_special_values_are_pytorchs() -> None:
    a, b = pairs(SPECIAL[np.abs(SPECIAL) < 2.0**20])
    infinite = [np.array([1.0, -1.0, np.inf, np.nan, 1.0], np.float32),
                np.array([np.inf, np.inf, 1.0, 1.0, np.nan], np.float32)]  # fmt: skip
    near = np.abs(a) / np.where(b == 0, 1, np.abs(b)) < 100
    for x, y in ((a[near], b[near]), infinite):
        got, want = expanded("fmod", FLOAT32, [x, y]), meant("fmod", FLOAT32, [x, y])
        np.testing.assert_allclose(got, want, rtol=0, atol=2.0**-17)


@pytest.mark.parametrize("op", ["fmod", "remainder", "sign"])
def test_integer_expansions_are_exact(op: str) -> None:
    arrays = [INTEGERS] if op == "sign" else list(pairs(INTEGERS))
    if op != "sign":  # the smallest integer has no absolute value
        keep = (arrays[0] != -(2**31)) & (arrays[1] != -(2**31)) & (arrays[1] != 0)
        arrays = [a[keep] for a in arrays]
    want = meant(op, INT32, arrays)
    np.testing.assert_array_equal(expanded(op, INT32, arrays), want)


def test_random_words_and_wide_products_are_exact() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, (5, 5000), dtype=np.uint32)
    words[:, :8] = np.array([0, 1, 2, 3, 0xFFFF, 0x10000, 0xFFFFFFFE, 0xFFFFFFFF], np.uint32)
    for op in ("mul_high", "random"):
        arrays = list(words[: SCALAR_OPS[op].arity])
        np.testing.assert_array_equal(expanded(op, UINT32, arrays), meant(op, UINT32, arrays))


def test_random_words_are_philox() -> None:
    """The known answers of the authors' Random123 distribution: kat_vectors, philox 4x32 10."""
    zero, index = np.uint32(0), np.arange(4, dtype=np.uint32)
    got = SCALAR_OPS["random"].reference(zero, zero, zero, zero, index)
    assert [hex(w) for w in got] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]

"""Every scalar op on WebAssembly, on one lane and on four, against its row in the scalar table."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.ir.dim import Dim
from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32, numpy_dtype
from hearth.ir.expr import Const
from hearth.ir.index import Index, axis
from hearth.ir.kernel import IndexValue, Kernel, Load, Param, Store
from hearth.ir.scalar import SCALAR_OPS, apply
from tests.codegen.wasm.machine import Array, Machine, stored

INF, NAN = np.inf, np.nan
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-40, -1e-40, 1.2e-38, 3e38, -3e38,
          INF, -INF, NAN, 88.7, 89.5, -87.3, -103.9, -104.5, 1e-8, 0.3, 0.7, 7.9, 1e5, 16777217.0,
          2147483000.0, 0.999, 1.0001]  # fmt: skip
INTS = [0, 1, -1, 2, -2, 3, 7, -7, 31, 100, -100, 2**31 - 1, -(2**31), 65536, -65537, 12345]
UINTS = [0, 1, 2, 3, 7, 31, 100, 2**31, 2**32 - 1, 65536, 0x9E3779B9, 0xD2511F53, 5, 6, 8, 9]
BOOLS = [False, True, True, False]
VALUES = {FLOAT32: FLOATS, INT32: INTS, UINT32: UINTS, BOOL: BOOLS}

# Largest error in units in the last place of the float32 result; the default is one rounding.
ULPS = {"exp": 1.1, "log": 1.0, "tanh": 2.5, "erf": 1.6, "sin": 2.0, "cos": 2.0, "sigmoid": 3.0,
        "expm1": 4.0, "log1p": 4.0, "gelu": 8.0, "rsqrt": 1.5}  # fmt: skip
INTEGER = ("bit_and", "bit_or", "bit_xor", "shift_left", "shift_right")


def domain(dtypes: tuple[str, ...]) -> list[Array]:
    """Every pair (triple …) of special values, with a length that leaves a remainder."""
    grids = np.meshgrid(*(np.arange(len(VALUES[d])) for d in dtypes), indexing="ij")
    columns = [
        np.array(VALUES[d], dtype=numpy_dtype(d))[g.reshape(-1)]
        for d, g in zip(dtypes, grids, strict=True)
    ]
    extra = (3 - columns[0].size) % 4
    return [np.concatenate([c, c[:extra]]) for c in columns]


def run_op(name: str, dtypes: tuple[str, ...], columns: list[Array], *,
           relaxed: bool = True) -> Array:  # fmt: skip
    """The op in a flat kernel: four lanes, and single ones for the remainder."""
    count = columns[0].size
    i = axis(0, count)
    value = apply(name, *(Load(d, p, i) for p, d in enumerate(dtypes)))
    params = [Param(d, Dim.of(count), True, False) for d in dtypes]
    out = len(params)
    kernel = Kernel(name, (*params, Param(value.dtype, Dim.of(count), False, True)),
                    (Dim.of(count),), (Store((), out, i, value),))  # fmt: skip
    buffers = [stored(c, d) for c, d in zip(columns, dtypes, strict=True)]
    buffers.append(np.zeros(count, stored(np.zeros(1), value.dtype).dtype))
    got = Machine([kernel], relaxed=relaxed).run(0, buffers, 1)[out]
    return got.astype(bool) if value.dtype == BOOL else got


def signatures() -> list[tuple[str, tuple[str, ...]]]:
    cases: list[tuple[str, tuple[str, ...]]] = []
    for name, row in SCALAR_OPS.items():
        if name in ("random", "mul_high"):  # below
            continue
        if name in INTEGER:
            cases += [(name, (d, d)) for d in (INT32, UINT32)]
        elif name in ("and", "or", "not"):
            cases.append((name, (BOOL,) * row.arity))
        elif name == "where":
            cases += [(name, (BOOL, d, d)) for d in (FLOAT32, INT32)]
        elif name == "float_of_bits":
            cases.append((name, (UINT32,)))
        elif name.startswith("to_"):
            cases += [(name, (d,)) for d in (FLOAT32, INT32, UINT32, BOOL)]
        else:
            cases.append((name, (FLOAT32,) * row.arity))
            if name in ("add", "sub", "mul", "floor_div", "neg", "abs", "maximum", "minimum", "eq",
                        "ne", "lt", "le", "gt", "ge", "sign", "remainder", "fmod"):  # fmt: skip
                cases.append((name, (INT32,) * row.arity))
            if name in ("add", "sub", "mul", "maximum", "minimum", "lt", "ge"):
                cases.append((name, (UINT32,) * row.arity))
    return cases


def in_domain(name: str, dtypes: tuple[str, ...], columns: list[Array]) -> Array:
    """Where the reference itself is defined: shifts below 32, casts in range, no zero divisors."""
    ok = np.ones(columns[0].size, bool)
    if name.startswith("shift"):
        ok &= (columns[1] >= 0) & (columns[1] < 32)
    if name in ("to_int32", "to_uint32") and dtypes[0] == FLOAT32:
        low, high = (-(2.0**31), 2.0**31) if name == "to_int32" else (-1.0, 2.0**32)
        with np.errstate(invalid="ignore"):
            ok &= (columns[0] > low) & (columns[0] < high)
    if name in ("floor_div", "remainder", "fmod"):
        ok &= columns[1] != 0
        if dtypes[0] == FLOAT32:
            ok &= np.isfinite(columns[0]) & np.isfinite(columns[1])
            with np.errstate(all="ignore"):
                ok &= np.abs(columns[0] / columns[1]) < (2**20 if name == "floor_div" else 4)
        elif name != "floor_div":  # the expansions take absolute values
            ok &= (columns[0] != -(2**31)) & (columns[1] != -(2**31))
    if name in ("sin", "cos", "tan"):
        ok &= ~(np.abs(columns[0]) > 1e6)  # where the argument reduction ends
    return ok


def limits(name: str, columns: list[Array], exact: Array) -> Array:
    """Admitted error per element, in ulps of the result."""
    default = ULPS.get(name, 16.0 if SCALAR_OPS[name].expansion else 0.51)
    limit = np.full(exact.shape, default)
    with np.errstate(all="ignore"):
        if name == "pow":  # exp(y log x): the error of the logarithm grows with the exponent
            limit += 2 * np.nan_to_num(np.abs(np.log(np.abs(exact))), posinf=0)
        # fmod is exact up to one ulp of x; x/2 (1 + erf) cancels on the far left.
        if name in ("gelu", "fmod", "remainder"):
            limit += np.nan_to_num(np.abs(columns[0] / exact), posinf=0)
    return limit


def ulp_error(got: Array, exact: Array) -> Array:
    """Distance in units in the last place; equal infinities and NaNs count as exact."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        spacing = np.spacing(np.maximum(np.abs(rounded), np.float32(2.0**-126))).astype(np.float64)
        error = np.abs(got.astype(np.float64) - exact) / spacing
        same = (got == rounded) | (np.isnan(got) & np.isnan(exact))
        overflow = np.isinf(rounded) & (np.abs(got) >= np.float32(3.4028e38))
    return np.where(same | overflow, 0.0, error)


@pytest.mark.wasm
@pytest.mark.parametrize(("name", "dtypes"), signatures(), ids=str)
def test_an_op_agrees_with_its_row_on_special_values(name: str, dtypes: tuple[str, ...]) -> None:
    columns = domain(dtypes)
    got = run_op(name, dtypes, columns)
    wide = [c.astype(np.float64) if c.dtype == np.float32 else c for c in columns]
    with np.errstate(all="ignore"):
        expected = np.asarray(SCALAR_OPS[name].reference(*wide))
    ok = in_domain(name, dtypes, columns)
    if got.dtype != np.float32:
        np.testing.assert_array_equal(got[ok], expected[ok].astype(got.dtype))
        return
    error = np.where(ok, ulp_error(got, expected.astype(np.float64)), 0.0)
    excess = np.nan_to_num(error, nan=np.inf) - limits(name, columns, expected)
    worst = int(np.argmax(excess))
    shown = [c[worst] for c in columns]
    assert excess[worst] <= 0, f"{name}{shown} = {got[worst]}, exact {expected[worst]}"


@pytest.mark.wasm
@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize(("name", "low", "high"), [
    ("exp", -104.0, 89.0), ("log", 0.0, 3e38), ("log", 0.4, 2.5), ("tanh", -12.0, 12.0),
    ("tanh", -0.7, 0.7), ("erf", -5.0, 5.0), ("erf", 1.06, 1.08), ("erf", -1e-3, 1e-3),
    ("sin", -20.0, 20.0), ("cos", -20.0, 20.0), ("sin", -1e6, 1e6),
    ("sigmoid", -90.0, 90.0), ("expm1", -2.0, 2.0), ("log1p", -0.9, 3.0),
])  # fmt: skip
def test_functions_stay_within_their_bound(name: str, low: float, high: float,
                                           relaxed: bool) -> None:  # fmt: skip
    x = np.random.default_rng(1).uniform(low, high, 200_001).astype(np.float32)
    got = run_op(name, (FLOAT32,), [x], relaxed=relaxed)
    with np.errstate(all="ignore"):
        exact = np.asarray(SCALAR_OPS[name].reference(x.astype(np.float64)))
    error = ulp_error(got, exact)
    if name in ("sin", "cos"):  # near a zero of the function only the absolute error is bounded
        error = np.where(np.abs(exact) < 1e-2, np.abs(got - exact) / 6e-8 / 4, error)
    worst = int(np.argmax(error))
    assert error[worst] <= ULPS[name], f"{name}({x[worst]}) = {got[worst]}, exact {exact[worst]}"


@pytest.mark.wasm
def test_a_vector_of_masked_scores_has_exponentials_of_zero() -> None:
    """They take a short cut, which a NaN or one larger score must not take."""
    masked = np.float32([-INF, -104.0, -1e30, -INF])
    mixed = [masked.copy() for _ in range(4)]
    for lane, (vector, value) in enumerate(zip(mixed, (NAN, 1.0, -103.9, 0.0), strict=True)):
        vector[lane] = value
    mixed[0] = -np.abs(mixed[0])  # a NaN with a sign, as x86 makes them
    x = np.concatenate([masked, *mixed])
    exact = np.exp(x.astype(np.float64))
    got = run_op("exp", (FLOAT32,), [x])
    assert (got[:4] == 0).all()
    assert (ulp_error(got, exact) <= ULPS["exp"]).all()


@pytest.mark.wasm
def test_random_words_are_those_of_philox() -> None:
    rng = np.random.default_rng(2)
    columns = [rng.integers(0, 2**32, 1003, dtype=np.uint32) for _ in range(4)]
    columns.append(np.arange(1003, dtype=np.uint32))
    got = run_op("random", (UINT32,) * 5, columns)
    np.testing.assert_array_equal(got, SCALAR_OPS["random"].reference(*columns))


@pytest.mark.wasm
def test_the_high_half_of_products_is_exact() -> None:
    columns = domain((UINT32, UINT32))
    got = run_op("mul_high", (UINT32, UINT32), columns)
    np.testing.assert_array_equal(got, SCALAR_OPS["mul_high"].reference(*columns))


@pytest.mark.wasm
@pytest.mark.parametrize("rows", [(3, 10), (5, 8), (2, 4), (1, 7), (4, 16)])
def test_random_tensors_do_not_depend_on_how_they_are_walked(rows: tuple[int, int]) -> None:
    count, width = rows
    i, j = axis(0, count), axis(1, width)
    point = i * width + j
    index = apply("to_uint32", IndexValue(INT32, point + 4))
    key = [Load(UINT32, 0, Index.of(k)) for k in range(2)]
    value = apply("random", *key, Const(UINT32, 7), Const(UINT32, 3), index)
    column = Load(UINT32, 1, i)  # keeps the axes apart
    kernel = Kernel(
        "dropout",
        (Param(UINT32, Dim.of(2), True, False), Param(UINT32, Dim.of(count), True, False),
         Param(UINT32, Dim.of(count * width), False, True)),
        (Dim.of(count), Dim.of(width)), (Store((), 2, point, apply("add", value, column)),),
    )  # fmt: skip
    words = np.array([123, 456], np.uint32)
    columns = np.arange(count, dtype=np.uint32)
    got = Machine([kernel]).run(0, [words, columns, np.zeros(count * width, np.uint32)], 1)[2]
    index_values = np.arange(4, 4 + count * width, dtype=np.uint32)
    seven, three = np.uint32(7), np.uint32(3)
    expected = SCALAR_OPS["random"].reference(words[0], words[1], seven, three, index_values)
    np.testing.assert_array_equal(got, expected + np.repeat(columns, width))


@pytest.mark.wasm
@pytest.mark.parametrize("name", ["floor_div", "remainder", "shift_left", "shift_right"])
@pytest.mark.parametrize("constant", [1, 2, 3, 8, 31])
@pytest.mark.parametrize("dtype", [INT32, UINT32])
def test_constant_operands_take_their_short_cuts(name: str, constant: int, dtype: str) -> None:
    values = np.array((INTS if dtype == INT32 else UINTS) * 2 + [5, 6, 9], numpy_dtype(dtype))
    i = axis(0, values.size)
    value = apply(name, Load(dtype, 0, i), Const(dtype, constant))
    size = Dim.of(values.size)
    params = (Param(dtype, size, True, False), Param(dtype, size, False, True))
    kernel = Kernel("constant", params, (size,), (Store((), 1, i, value),))
    got = Machine([kernel]).run(0, [values, np.zeros_like(values)], 1)[1]
    expected = SCALAR_OPS[name].reference(values, numpy_dtype(dtype).type(constant))
    np.testing.assert_array_equal(got, expected)

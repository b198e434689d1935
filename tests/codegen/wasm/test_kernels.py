"""Kernels of random graphs on WebAssembly, against their NumPy meaning.

The graphs mix the batch size with primes and ones, views with guards, reductions along any axis
(argmax too), gathers, contractions with epilogues, and updates in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hearth.ir.dim import B, Dim, product
from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32
from hearth.ir.graph import Graph
from hearth.ir.index import Index, Value, atom_index, axis, floor_div, linearize, mod
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Param,
    Reduction,
    Store,
)
from hearth.ir.scalar import apply
from hearth.schedule.reference import run_kernel
from hearth.schedule.schedule import StatePlace, schedule
from tests.codegen.wasm.machine import Machine, stored
from tests.random_graphs import STATE_SHAPES, data_inputs, graphs

Array = Any
pytestmark = pytest.mark.wasm
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def compare(machine: Machine, number: int, buffers: list[Array], batch: int) -> None:
    """One kernel against its meaning in float32; sums may differ in their order."""
    kernel = machine.kernels[number]
    expected = [b.copy() for b in buffers]
    with np.errstate(all="ignore"):
        run_kernel(kernel, expected, batch)
    got = machine.run(number, buffers, batch)
    for param, want, have in zip(kernel.params, expected, got, strict=True):
        if not param.is_written or param.dtype != FLOAT32:
            np.testing.assert_array_equal(have, want)
            continue
        finite = want[np.isfinite(want)]
        scale = float(np.abs(finite).max(initial=1.0))
        np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-5 * scale)


def feed(kernel: Kernel, batch: int, labels_below: int = 3) -> list[Array]:
    """Random elements; integers are small enough to be indices."""
    rng = np.random.default_rng(len(kernel.params))
    buffers = []
    for param in kernel.params:
        count = param.size.at(batch)
        if param.dtype == FLOAT32:
            buffers.append(rng.standard_normal(count).astype(np.float32))
        else:
            high = 2 if param.dtype == BOOL else labels_below
            buffers.append(stored(rng.integers(0, high, count), param.dtype))
    return buffers


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(graphs(), st.sampled_from([1, 3, 5]))
def test_kernels_of_random_graphs_keep_their_meaning(graph: Graph, batch: int) -> None:
    places, end = {}, 0
    for i, shape in enumerate(STATE_SHAPES):
        size = 4 * int(np.prod(shape))
        places[f"s{i}"] = StatePlace(end, size)
        end += -(-size // 256) * 256
    kernels = [step.kernel for step in schedule(graph, data_inputs(), places).steps]
    if not kernels:
        return
    machine = Machine(kernels)
    for number, kernel in enumerate(kernels):
        compare(machine, number, feed(kernel, batch), batch)


def params(*specs: tuple[str, Any, str]) -> tuple[Param, ...]:
    return tuple(Param(d, Dim.of(s), "r" in m, "w" in m) for d, s, m in specs)


@pytest.mark.parametrize("kind", ["sum", "max", "min", "prod", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", [FLOAT32, INT32, UINT32])
@pytest.mark.parametrize("inner", [(1,), (3,), (10,), (67,), (5, 7), (B,), (B, 9)])
def test_reductions_over_rows_and_columns(kind: str, dtype: str, inner: tuple[Any, ...]) -> None:
    result = INT32 if kind.startswith("arg") else dtype
    kernels = []
    for outer_first in (True, False):
        outer = axis(0, 6)
        coords = [axis(1 + i, e) for i, e in enumerate(inner)]
        shape = (6, *inner) if outer_first else (*inner, 6)
        order = [outer, *coords] if outer_first else [*coords, outer]
        load = Load(dtype, 0, linearize(order, tuple(Dim.of(e) for e in shape)))
        stage = Accumulate(tuple(Dim.of(e) for e in inner), (Reduction(kind, load),))
        specs = ((dtype, product(shape), "r"), (result, 6, "w"))
        kernels.append(Kernel("reduce", params(*specs), (Dim.of(6),),
                              (stage, Store((), 1, outer, Accumulator(result, 0)))))  # fmt: skip
    machine = Machine(kernels)
    for number, kernel in enumerate(kernels):
        for batch in (1, 5):
            buffers = feed(kernel, batch, labels_below=5)
            if dtype == FLOAT32 and kind != "sum":  # ties, and what sorts oddly
                buffers[0][:] = np.round(buffers[0] * 2) / 2
                buffers[0][::11] = np.nan
                buffers[0][4::17] = -np.inf
            compare(machine, number, buffers, batch)


def test_long_sums_are_as_exact_as_float64() -> None:
    count = 300_001
    load = Load(FLOAT32, 0, axis(0, count))
    column = Load(FLOAT32, 0, axis(1, count // 4) * 4 + axis(0, 4))
    flat = Kernel("sum", params((FLOAT32, count, "r"), (FLOAT32, 1, "w")), (),
                  (Accumulate((Dim.of(count),), (Reduction("sum", load),)),
                   Store((), 1, Index(), Accumulator(FLOAT32, 0))))  # fmt: skip
    columns = Kernel("columns", params((FLOAT32, count, "r"), (FLOAT32, 4, "w")), (Dim.of(4),),
                     (Accumulate((Dim.of(count // 4),), (Reduction("sum", column),)),
                      Store((), 1, axis(0, 4), Accumulator(FLOAT32, 0))))  # fmt: skip
    values = np.random.default_rng(3).uniform(0, 1, count).astype(np.float32)
    machine = Machine([flat, columns])
    got = machine.run(0, [values, np.zeros(1, np.float32)], 1)[1]
    np.testing.assert_array_equal(got, values.astype(np.float64).sum().astype(np.float32))
    got = machine.run(1, [values, np.zeros(4, np.float32)], 1)[1]
    exact = values[: count // 4 * 4].reshape(-1, 4).astype(np.float64).sum(0)
    np.testing.assert_array_equal(got, exact.astype(np.float32))


@pytest.mark.parametrize("shift", [-9, -2, 0, 3, 11])
@pytest.mark.parametrize("width", [5, 8, 13])
def test_guards_keep_reads_inside(shift: int, width: int) -> None:
    i, j = axis(0, B), axis(1, width)
    inside = InRange(j + shift, Dim.of(width))
    load = Load(FLOAT32, 0, i * width + j + shift, (inside,), fill=-1.5)
    above = InRange(i - 1, B)
    up = Load(FLOAT32, 0, (i - 1) * width + j, (above,), fill=0.25)
    both = Load(INT32, 1, (i - 1) * width + j + shift, (inside, above), fill=7)
    total = apply("add", apply("add", load, up), apply("to_float32", both))
    kernel = Kernel("shift", params((FLOAT32, B * width, "r"), (INT32, B * width, "r"),
                                    (FLOAT32, B * width, "w")), (B, Dim.of(width)),
                    (Store((), 2, i * width + j, total),))  # fmt: skip
    machine = Machine([kernel])
    for batch in (1, 4):
        compare(machine, 0, feed(kernel, batch), batch)


def test_bools_are_zero_or_one_in_memory() -> None:
    i, j = axis(0, B), axis(1, 7)
    point = i * 7 + j
    flag = Load(BOOL, 0, point)
    positive = apply("gt", Load(FLOAT32, 1, point), 0.0)
    value = apply("or", apply("not", flag), apply("and", flag, positive))
    kernel = Kernel("bools", params((BOOL, B * 7, "r"), (FLOAT32, B * 7, "r"), (BOOL, B * 7, "w")),
                    (B, Dim.of(7)), (Store((), 2, point, value),))  # fmt: skip
    compare(Machine([kernel]), 0, feed(kernel, 5), 5)


def test_a_transpose_and_a_flip_walk_memory_in_steps() -> None:
    i, j = axis(0, 9), axis(1, B)
    transposed = Load(FLOAT32, 0, j * 9 + i)
    flipped = Load(FLOAT32, 1, (i * -1 + 8) * B + (j * -1 + (B - 1)))
    position = apply("to_float32", IndexValue(INT32, i * 1000 + j))
    total = apply("add", apply("add", transposed, flipped), position)
    kernel = Kernel("turn", params((FLOAT32, B * 9, "r"), (FLOAT32, B * 9, "r"),
                                   (FLOAT32, B * 9, "w")), (Dim.of(9), B),
                    (Store((), 2, i * B + j, total),))  # fmt: skip
    machine = Machine([kernel])
    for batch in (1, 2, 7, 16):
        compare(machine, 0, feed(kernel, batch), batch)


def test_equal_kernels_are_emitted_once() -> None:
    i = axis(0, B)
    kernel = Kernel("twice", params((FLOAT32, B, "r"), (FLOAT32, B, "w")), (B,),
                    (Store((), 1, i, apply("exp", Load(FLOAT32, 0, i))),))  # fmt: skip
    one, two = Machine([kernel]).module, Machine([kernel, kernel]).module
    assert two.names == ("twice", "twice")
    assert len(two.module.functions) == len(one.module.functions) + 1  # one more program


@pytest.mark.parametrize("width", [4, 7, 10, 16])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_pooled_elements_are_found_by_division(width: int, factor: int) -> None:
    i, j = axis(0, B), axis(1, width)
    count = -(-width // factor)
    pooled = Load(FLOAT32, 0, i * count + floor_div(j, factor))
    taps = Load(FLOAT32, 1, i * factor + mod(j + 1, factor))
    value = apply("sub", pooled, taps)
    kernel = Kernel("spread", params((FLOAT32, B * count, "r"), (FLOAT32, B * factor, "r"),
                                     (FLOAT32, B * width, "w")), (B, Dim.of(width)),
                    (Store((), 2, i * width + j, value),))  # fmt: skip
    compare(Machine([kernel]), 0, feed(kernel, 3), 3)
    strided = Load(FLOAT32, 0, i * (width * factor) + j * factor + (factor - 1))
    kernel = Kernel("stride", params((FLOAT32, B * width * factor, "r"), (FLOAT32, B * width, "w")),
                    (B, Dim.of(width)), (Store((), 1, i * width + j, strided),))  # fmt: skip
    compare(Machine([kernel]), 0, feed(kernel, 3), 3)


@pytest.mark.parametrize("shift", [0, 1])
def test_gathers_take_each_lane_its_own_index(shift: int) -> None:
    i, j = axis(0, B), axis(1, 11)
    index = Load(INT32, 0, i * 11 + j)
    row = Value(apply("add", index, shift), Dim.of(9))
    gathered = Load(FLOAT32, 1, atom_index(row) * 11 + j)
    once = Load(FLOAT32, 1, atom_index(Value(Load(INT32, 0, i * 11), Dim.of(9))) * 11 + j)
    kernel = Kernel("gather", params((INT32, B * 11, "r"), (FLOAT32, 99, "r"),
                                     (FLOAT32, B * 11, "w")), (B, Dim.of(11)),
                    (Store((), 2, i * 11 + j, apply("sub", gathered, once)),))  # fmt: skip
    for batch in (1, 3):
        compare(Machine([kernel]), 0, feed(kernel, batch, labels_below=8), batch)


def test_an_element_is_read_once_until_it_is_written() -> None:
    """Two vectors are updated one after the other, the second with the new value of the first."""
    size = Dim.of(24)
    params = tuple(Param(FLOAT32, size, is_read=True, is_written=True) for _ in range(3))
    here = axis(0, size)
    a, b, c = (Load(FLOAT32, i, here) for i in range(3))
    stages = (
        Store((), 0, here, apply("add", a, b)),
        Store((), 1, here, apply("mul", a, c)),
        Store((), 2, here, apply("add", apply("mul", c, c), apply("sub", b, a))),
    )
    machine = Machine([Kernel("updates", params, (size,), stages)])
    compare(machine, 0, feed(machine.kernels[0], 1), 1)
    text = machine.module.wat(machine.module.names[0])
    assert text.count("v128.load ") + text.count("v128.load\n") == 5  # a and b again, when new

"""Sums by index as additions: the same as the comparisons that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hearth.codegen.scatter import find_scatter
from hearth.codegen.wasm import Call
from hearth.ir.dim import B, Dim, product
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.index import axis, linearize
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    IndexValue,
    Kernel,
    Load,
    Param,
    Reduction,
    Store,
)
from hearth.ir.scalar import apply, const
from tests.codegen.wasm.machine import Machine
from tests.codegen.wasm.test_kernels import compare, feed
from tests.codegen.wasm.test_threads import run

pytestmark = pytest.mark.wasm
POINTS = B * 3
INDICES, VALUES, ADDED, RESULT = range(4)


def table_gradient(rows: Any, width: int, dtype: str = FLOAT32, *, last: bool = False,
                   epilogue: bool = True) -> Kernel:  # fmt: skip
    """result[r, w] = added[r, w] + sum over k of values[k, w] where indices[k] == r."""
    shape = (Dim.of(width), Dim.of(rows)) if last else (Dim.of(rows), Dim.of(width))
    outer = [axis(0, shape[0]), axis(1, shape[1])]
    row, element = reversed(outer) if last else outer
    k, point = axis(2, POINTS), linearize(outer, shape)
    is_here = apply("eq", Load(INT32, INDICES, k), IndexValue(INT32, row))
    value = Load(dtype, VALUES, k * width + element)
    chosen = apply("where", is_here, value, const(0, dtype))
    total = apply("add", Load(dtype, ADDED, point), Accumulator(dtype, 0))
    stored = total if epilogue else Accumulator(dtype, 0)
    params = (Param(INT32, POINTS, True, False), Param(dtype, POINTS * width, True, False),
              Param(dtype, product(shape), epilogue, False),
              Param(dtype, product(shape), False, True))  # fmt: skip
    stages = (Accumulate((POINTS,), (Reduction("sum", chosen),)), Store((), RESULT, point, stored))
    return Kernel("table", params, shape, stages)


@pytest.mark.parametrize("rows", [8, 29, B + 8])
@pytest.mark.parametrize("width", [1, 3, 8, 39, 64])
@pytest.mark.parametrize("epilogue", [False, True])
def test_rows_of_an_index_are_added(rows: Any, width: int, epilogue: bool) -> None:
    kernel = table_gradient(rows, width, epilogue=epilogue)
    assert find_scatter(kernel) is not None
    for batch in (1, 7):
        buffers = feed(kernel, batch, labels_below=9)
        buffers[INDICES][::5] = -1  # nobody's
        buffers[INDICES][1::6] = 1000
        compare(Machine([kernel]), 0, buffers, batch)


def test_rows_may_be_the_last_axis_and_elements_integers() -> None:
    for kernel in (table_gradient(11, 5, last=True), table_gradient(11, 5, INT32)):
        assert find_scatter(kernel) is not None
        compare(Machine([kernel]), 0, feed(kernel, 4, labels_below=12), 4)


def test_two_results_of_one_sum() -> None:
    kernel = table_gradient(9, 40, epilogue=False)
    first, store = kernel.stages
    doubled = apply("mul", Accumulator(FLOAT32, 0), 2.0)
    other = Store((), ADDED, store.index, doubled)
    params = list(kernel.params)
    params[ADDED] = replace(params[ADDED], is_written=True)
    for stages in ((first, store, other), (first, other, store)):
        both = replace(kernel, params=tuple(params), stages=stages)
        assert find_scatter(both) is not None
        compare(Machine([both]), 0, feed(both, 5, labels_below=9), 5)


def test_an_update_in_place_is_no_target() -> None:
    kernel = table_gradient(9, 40)
    point = kernel.stages[1].index
    total = apply("add", Load(FLOAT32, RESULT, point), Accumulator(FLOAT32, 0))
    stages = (kernel.stages[0], Store((), RESULT, point, total))
    params = (*kernel.params[:RESULT], replace(kernel.params[RESULT], is_read=True))
    kernel = replace(kernel, stages=stages, params=params)
    assert find_scatter(kernel) is None
    compare(Machine([kernel]), 0, feed(kernel, 5, labels_below=9), 5)


def test_threads_give_the_same_bits() -> None:
    kernel = table_gradient(50, 200)
    buffers = feed(kernel, 6, labels_below=50)
    calls = [Call(0, tuple(range(len(buffers))))]
    alone = run([kernel], calls, buffers, 6, threads=1)
    for threads in (2, 3):
        together = run([kernel], calls, buffers, 6, threads)
        np.testing.assert_array_equal(together[RESULT], alone[RESULT])


def test_the_sum_of_many_is_in_their_order() -> None:
    kernel = table_gradient(8, 1, epilogue=False)
    buffers = feed(kernel, 300)
    buffers[INDICES][:] = 2
    got = Machine([kernel]).run(0, buffers, 300)[RESULT]
    expected = np.float32(0)
    for value in buffers[VALUES]:
        expected += value
    assert got[2] == expected

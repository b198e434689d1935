"""Sums by index as additions on a software adapter: the same as the comparisons they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hearth.codegen.wgsl import VARIANTS, emit_kernel
from hearth.codegen.wgsl.variants import GENERAL
from hearth.ir.dim import B
from hearth.ir.dtype import INT32
from hearth.ir.kernel import Kernel
from hearth.schedule.reference import run_kernel
from tests.codegen.wasm.test_scatter import INDICES, RESULT, VALUES, table_gradient
from tests.codegen.wgsl.adapter import Adapter

pytestmark = pytest.mark.webgpu
SOFTWARE = next(variant for variant in VARIANTS if variant.is_for_software)


def feed(kernel: Kernel, batch: int) -> list[Any]:
    random = np.random.default_rng(batch)
    buffers: list[Any] = []
    for param in kernel.params:
        count = param.size.at(batch)
        if param.dtype == INT32:
            buffers.append(random.integers(-1, 12, count).astype(np.int32))
        else:
            buffers.append(random.standard_normal(count).astype(np.float32))
    buffers[INDICES][1::6] = 1000  # nobody's
    return buffers


def expected_of(kernel: Kernel, buffers: list[Any], batch: int) -> Any:
    exact = [b.astype(np.float64) if b.dtype == np.float32 else b.copy() for b in buffers]
    run_kernel(kernel, exact, batch)
    return exact[RESULT]


@pytest.mark.parametrize("variant", [GENERAL, SOFTWARE], ids=lambda v: v.name)
@pytest.mark.parametrize("rows", [8, 29, B + 8])
@pytest.mark.parametrize("width", [1, 39, 200])
@pytest.mark.parametrize("epilogue", [False, True])
def test_rows_of_an_index_are_added(
    adapter: Adapter, rows: Any, width: int, epilogue: bool, variant: Any
) -> None:
    kernel = table_gradient(rows, width, epilogue=epilogue)
    module = emit_kernel(kernel, variant)
    assert "adds to its own rows" in module.source
    for batch in (1, 7):
        buffers = feed(kernel, batch)
        got = adapter.run_module(module, buffers, batch)[RESULT]
        expected = expected_of(kernel, buffers, batch)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_rows_may_be_the_last_axis_and_elements_integers(adapter: Adapter) -> None:
    for kernel in (table_gradient(11, 5, last=True), table_gradient(11, 5, INT32)):
        buffers = feed(kernel, 4)
        got = adapter.run(kernel, buffers, 4)[RESULT]
        np.testing.assert_allclose(got, expected_of(kernel, buffers, 4), rtol=1e-5, atol=1e-5)


def test_the_sum_of_many_is_in_their_order(adapter: Adapter) -> None:
    kernel = table_gradient(8, 1, epilogue=False)
    buffers = feed(kernel, 300)
    buffers[INDICES][:] = 2
    expected = np.float32(0)
    for value in buffers[VALUES]:
        expected += value
    assert adapter.run(kernel, buffers, 300)[RESULT][2] == expected

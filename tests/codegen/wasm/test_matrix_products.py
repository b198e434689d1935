"""Matrix products of every shape and orientation, against float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hearth.codegen.wasm.gemm_plan import MANY_ROWS, MANY_WEIGHTS, TRIANGLE_BLOCK
from hearth.codegen.wasm.microkernels import PANEL
from hearth.ir.dim import B, Dim
from hearth.ir.graph import Triangular
from hearth.ir.kernel import Kernel
from tests.codegen.wasm.contractions import dot_kernel
from tests.codegen.wasm.machine import Machine

Array = Any
pytestmark = pytest.mark.wasm

ORIENTATIONS = list(itertools.product([False, True], repeat=2))


def check(kernel: Kernel, batch: int, machine: Machine | None = None, number: int = 0) -> None:
    """Runs a kernel of `dot_kernel` on random operands; every element within rounding."""
    t: Any = kernel.template
    items, m, n, k = (d.at(batch) for d in (t.batch, t.m, t.n, t.k))
    rng = np.random.default_rng(m * 31 + n * 7 + k)
    buffers = [rng.standard_normal(p.size.at(batch)).astype(np.float32) for p in kernel.params]
    a = buffers[t.a].astype(np.float64).reshape((items, k, m) if t.transpose_a else (items, m, k))
    b = buffers[t.b].astype(np.float64).reshape((items, n, k) if t.transpose_b else (items, k, n))
    a, b = (a.swapaxes(1, 2) if t.transpose_a else a), (b.swapaxes(1, 2) if t.transpose_b else b)
    product, magnitude = a @ b, np.abs(a) @ np.abs(b)
    got = (machine or Machine([kernel])).run(number, buffers, batch)
    tolerance = 2.0**-24 * (k + 4) * (magnitude + 4)
    if len(kernel.params) == 3:
        expect(got[2], product, tolerance)
    else:
        expect(got[2], np.maximum(product + buffers[3], 0), tolerance)
        expect(got[4], buffers[4].reshape(product.shape) + product / 2, tolerance)
    for position in (t.a, t.b):
        np.testing.assert_array_equal(got[position], buffers[position])


def expect(got: Array, exact: Array, tolerance: Array) -> None:
    error = np.abs(got.reshape(exact.shape) - exact)
    assert (error <= tolerance).all(), f"{np.argwhere(error > tolerance)[:4]}"


@pytest.mark.parametrize(("ta", "tb"), ORIENTATIONS)
@pytest.mark.parametrize("relaxed", [False, True])
def test_small_sizes_leave_every_remainder(ta: bool, tb: bool, relaxed: bool) -> None:
    sizes = [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17]
    rng = np.random.default_rng(5)
    triples = {tuple(int(s) for s in rng.choice(sizes, 3)) for _ in range(40)}
    triples |= {(1, 1, 1), (1, 17, 5), (17, 1, 5), (7, 8, 1), (6, 8, 64), (17, 17, 33), (1, 5, 40)}
    kernels = [
        dot_kernel((), m, n, k, transpose_a=ta, transpose_b=tb, with_epilogue=i % 2 == 0)
        for i, (m, n, k) in enumerate(sorted(triples))
    ]
    machine = Machine(kernels, relaxed=relaxed)
    for number, kernel in enumerate(kernels):
        check(kernel, 1, machine, number)


@pytest.mark.parametrize(("ta", "tb"), ORIENTATIONS)
@pytest.mark.parametrize("where", ["m", "n", "k", "mn", "mnk"])
def test_any_size_may_depend_on_the_batch(ta: bool, tb: bool, where: str) -> None:
    m, n, k = (B if s in where else Dim.of(f) for s, f in (("m", 7), ("n", 12), ("k", 37)))
    for with_epilogue in (False, True):
        kernel = dot_kernel((), m, n, k, transpose_a=ta, transpose_b=tb,
                            with_epilogue=with_epilogue)  # fmt: skip
        machine = Machine([kernel])
        for batch in (1, 2, 31, 64):
            check(kernel, batch, machine)


@pytest.mark.parametrize(("ta", "tb"), ORIENTATIONS)
def test_a_batch_of_products_keeps_its_items_apart(ta: bool, tb: bool) -> None:
    for lead in ((3,), (B,), (2, B), (B, 3, 2)):
        kernel = dot_kernel(lead, 5, 11, 34, transpose_a=ta, transpose_b=tb)
        check(kernel, 3)


@pytest.mark.parametrize(("ta", "tb", "m", "n", "k"), [
    (False, False, 50, 1030, 20), (False, False, 70, 300, 1100), (True, False, 600, 70, 300),
    (False, True, 64, 200, 4100), (True, True, 61, 67, 1031), (False, True, 3, 1025, 5),
    (False, False, 251, 9, 1500),
])  # fmt: skip
def test_sizes_beyond_one_block(ta: bool, tb: bool, m: int, n: int, k: int) -> None:
    for with_epilogue in (False, True):
        check(dot_kernel((), m, n, k, transpose_a=ta, transpose_b=tb,
                         with_epilogue=with_epilogue), 1)  # fmt: skip


@pytest.mark.parametrize("where", ["m", "n", "k"])
def test_an_extent_may_be_empty_for_one_sample(where: str) -> None:
    m, n, k = (B - 1 if s == where else Dim.of(6) for s in "mnk")
    machine = Machine([dot_kernel((), m, n, k)])
    for batch in (1, 2, 20):
        check(machine.kernels[0], batch, machine)


@pytest.mark.parametrize("batch", [MANY_ROWS - 1, MANY_ROWS, MANY_ROWS + 35])
@pytest.mark.parametrize("relaxed", [False, True])
def test_large_batches_pack_large_weights(batch: int, relaxed: bool) -> None:
    kernel = dot_kernel((), B, 130, 515, transpose_b=True)
    assert MANY_WEIGHTS <= (130 * 515)
    check(kernel, batch, Machine([kernel], relaxed=relaxed))


FAR = 2 * PANEL + 2 * TRIANGLE_BLOCK  # above the diagonal by so much, nothing is touched


@pytest.mark.parametrize("which", ["a", "b", "result"])
@pytest.mark.parametrize(("ta", "tb"), ORIENTATIONS)
@pytest.mark.parametrize(("size", "other"), [(72, 24), (128, 48), (300, 49), (331, 50)])
def test_half_of_a_triangular_matrix_is_left_out(which: str, ta: bool, tb: bool, size: int,
                                                 other: int) -> None:  # fmt: skip
    m, n, k = {"a": (size, other, size), "b": (other, size, size), "result": (size, size, other)}[
        which
    ]
    lower = Triangular(which == "a", which == "b", which == "result")
    kernels = [
        dot_kernel((2,), m, n, k, transpose_a=ta, transpose_b=tb, with_epilogue=fused,
                   triangular=lower)
        for fused in (False, True)
    ]  # fmt: skip
    rng = np.random.default_rng(size)
    machine = Machine(kernels)
    for number, kernel in enumerate(kernels):
        buffers = [rng.standard_normal(p.size.at(1)).astype(np.float32) for p in kernel.params]
        exact = []
        for operand, is_lower in ((0, lower.a), (1, lower.b)):
            shape = [(m, k), (k, n)][operand][:: -1 if (ta, tb)[operand] else 1]
            matrix = buffers[operand].reshape(2, *shape)
            if is_lower:
                matrix = np.tril(matrix)
                buffers[operand] = (matrix + np.triu(np.full(shape, np.nan), FAR)).reshape(-1)
                buffers[operand] = buffers[operand].astype(np.float32)
            exact.append(matrix.swapaxes(1, 2) if (ta, tb)[operand] else matrix)
        product = exact[0].astype(np.float64) @ exact[1].astype(np.float64)
        got = machine.run(number, buffers, 1)[2].reshape(product.shape)
        bias = buffers[3] if len(buffers) > 3 else 0.0
        expected, left_out = (
            np.maximum(x + bias, 0.0) if len(buffers) > 3 else x for x in (product, 0 * product)
        )
        near = np.tril(np.ones((m, n), bool), FAR if which == "result" else n)
        needed = np.tril(near) if which == "result" else near
        tolerance = 2.0**-24 * (k + 4) * (np.abs(exact[0]) @ np.abs(exact[1]) + 4)
        assert (np.abs(got - expected) <= tolerance)[:, needed].all()
        np.testing.assert_array_equal(got[:, ~near], left_out.astype(np.float32)[:, ~near])

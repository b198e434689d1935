"""Matrix products and convolutions on a software adapter, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hearth.codegen.wgsl import VARIANTS, Variant, emit_kernel
from hearth.codegen.wgsl.choose import TEMPLATES, emit_template
from hearth.codegen.wgsl.contraction import contraction_of
from hearth.codegen.wgsl.rewrite import spell
from hearth.ir import build
from hearth.ir.dim import B, Dim
from hearth.ir.graph import Triangular
from hearth.ir.kernel import Kernel
from hearth.ir.scalar import apply
from tests.codegen.wasm.contractions import dot_kernel
from tests.codegen.wgsl.adapter import Adapter
from tests.codegen.wgsl.cases import (
    Case,
    Geometry,
    conv_cases,
    dot_cases,
    f32,
    graph_cases,
    node,
)

pytestmark = pytest.mark.webgpu
LAYOUTS = [(ta, tb) for ta in (False, True) for tb in (False, True)]

DOTS = (
    (B, 128, 784, 3), (B, 10, 128, 33), (128, 784, B, 32), (10, 128, B, 7), (300, 257, 65, 1),
    (256, 256, 64, 1), (37, 41, 7, 1), (B * 49, 64, 100, 2), (1, 5, 9, 1), (B, 1, 300, 4),
    (5, 4, 5003, 1), (1031, 3, 2, 1),
)  # fmt: skip


@pytest.mark.parametrize(("m", "n", "k", "batch"), DOTS)
@pytest.mark.parametrize(("ta", "tb"), LAYOUTS)
def test_a_matrix_product(
    adapter: Adapter, m: Dim | int, n: int, k: Dim | int, batch: int, ta: bool, tb: bool
) -> None:
    check(adapter, dot_cases(m, n, k, ta=ta, tb=tb, batch=batch))


@pytest.mark.parametrize(("ta", "tb"), LAYOUTS)
def test_a_batch_of_matrix_products(adapter: Adapter, ta: bool, tb: bool) -> None:
    check(adapter, dot_cases(17, 23, 19, ta=ta, tb=tb, batch=3, lead=(B, 4)))


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(("ta", "tb"), LAYOUTS)
def test_every_template_is_right_for_every_size(
    adapter: Adapter, name: str, ta: bool, tb: bool
) -> None:
    """Sizes around the edges of a tile, with and without a remainder, whichever is chosen."""
    for m, n, k in ((1, 1, 1), (64, 128, 16), (67, 131, 19), (9, 5, 600)):
        for case in dot_cases(m, n, k, ta=ta, tb=tb, batch=1):
            contraction = contraction_of(spell(case.kernel))
            assert contraction is not None
            module = emit_template(contraction, TEMPLATES[name])
            case.check(adapter.run_module(module, case.buffers, 1))


@pytest.mark.parametrize(
    "name", ["tile128x128of8x8", "tile128x32of8x8", "tile8x128of4x4", "split64x64"]
)
@pytest.mark.parametrize("which", ["a", "b", "result"])
@pytest.mark.parametrize(("ta", "tb"), LAYOUTS)
def test_tiles_leave_out_half_of_a_triangular_matrix(
    adapter: Adapter, name: str, which: str, ta: bool, tb: bool
) -> None:
    """What a tile or more above the diagonal may hold anything: it is not multiplied."""
    far, size, other = 160, 328 if ta == tb else 330, 20
    m, n, k = {"a": (size, other, size), "b": (other, size, size), "result": (size, size, other)}[
        which
    ]
    lower = Triangular(which == "a", which == "b", which == "result")
    kernel = dot_kernel((2,), m, n, k, transpose_a=ta, transpose_b=tb, with_epilogue=False,
                        triangular=lower)  # fmt: skip
    contraction = contraction_of(spell(kernel))
    assert contraction is not None
    module = emit_template(contraction, TEMPLATES[name])
    random = np.random.default_rng(0)
    buffers, exact = [], []
    for is_turned, is_lower, shape in ((ta, lower.a, (m, k)), (tb, lower.b, (k, n))):
        matrix = random.standard_normal((2, *shape[:: -1 if is_turned else 1])).astype(np.float32)
        zeroed = np.tril(matrix) if is_lower else matrix
        skipped = name.startswith("tile")  # others multiply by the zeros
        anything = np.triu(np.full(matrix.shape[1:], np.nan, np.float32), far)
        buffers.append(zeroed + anything if is_lower and skipped else zeroed)
        exact.append((zeroed.swapaxes(1, 2) if is_turned else zeroed).astype(np.float64))
    result = np.full((2, m, n), np.nan, np.float32)
    got = adapter.run_module(module, [b.reshape(-1) for b in (*buffers, result)], 1)[2]
    product = exact[0] @ exact[1]
    needed = np.tril(np.ones((m, n), bool)) if lower.result else np.ones((m, n), bool)
    got = got.reshape(product.shape)
    assert np.abs(got - product)[:, needed].max() < 1e-4
    if lower.result and skipped:
        assert (got[:, np.triu(np.ones((m, n), bool), far)] == 0).all()


GEOMETRIES = (
    (Geometry.plain(1, 32, (28, 28), (3, 3)), 3),
    (Geometry.plain(32, 64, (13, 13), (3, 3)), 2),
    (Geometry.plain(6, 16, (14, 14), (5, 5)), 4),
    (Geometry.plain(1, 6, (28, 28), (5, 5), padding=2), 2),
    (Geometry.plain(16, 24, (7, 7), (1, 1)), 5),
    (Geometry(4, 8, (9, 11), (3, 2), (2, 1), (1, 2), (1, 1)), 3),
    (Geometry(6, 8, (9, 11), (3, 3), (2, 2), (1, 1), (2, 1), groups=2), 5),
    (Geometry(8, 8, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), groups=8), 3),
    (Geometry(8, 32, (9, 9), (3, 3), (2, 2), (1, 1), (1, 1), groups=4), 1),
    (Geometry(3, 5, (50,), (7,), (3,), (2,), (2,)), 4),
    (Geometry(16, 16, (31,), (3,), (1,), (1,), (1,)), 2),
    (Geometry(2, 3, (4, 5, 6), (2, 2, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1)), 2),
    (Geometry(2, 3, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)), 1),
)


@pytest.mark.parametrize(("geometry", "batch"), GEOMETRIES, ids=str)
def test_a_convolution_and_its_gradients(adapter: Adapter, geometry: Geometry, batch: int) -> None:
    check(adapter, conv_cases(geometry, B, batch))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
@pytest.mark.parametrize(("geometry", "batch"), GEOMETRIES[3:7], ids=str)
def test_a_convolution_in_every_variant(
    adapter: Adapter, geometry: Geometry, batch: int, variant: Variant
) -> None:
    for case in conv_cases(geometry, B, batch):
        module = emit_kernel(case.kernel, variant)
        case.check(adapter.run_module(module, case.buffers, case.batch))


@pytest.mark.parametrize("name", [name for name in TEMPLATES if "x8" in name])
@pytest.mark.parametrize(
    "geometry", [GEOMETRIES[2][0], GEOMETRIES[3][0], GEOMETRIES[5][0]], ids=str
)
def test_a_convolution_by_every_template(adapter: Adapter, geometry: Geometry, name: str) -> None:
    """Windows that overlap and windows that do not, whichever template is chosen."""
    for case in conv_cases(geometry, B, 3):
        contraction = contraction_of(spell(case.kernel))
        assert contraction is not None
        module = emit_template(contraction, TEMPLATES[name])
        case.check(adapter.run_module(module, case.buffers, 3))


@pytest.mark.parametrize(("ta", "tb"), LAYOUTS)
def test_one_buffer_read_as_vectors_and_as_elements(adapter: Adapter, ta: bool, tb: bool) -> None:
    """A matrix times itself, plus itself: both operands and the epilogue read one parameter."""
    x = node("x", 64, 64)
    total = build.pointwise(apply("add", f32(0), f32(1)), build.dot(x, x, ta, tb), x)
    cases = graph_cases("square", total, batch=1, rounding=16)
    assert len(cases) == 1
    check(adapter, cases)


def test_a_long_weight_gradient_is_accurate(adapter: Adapter) -> None:
    """A sum over 16 images of 26 x 26: as exact as the sum of its parts."""
    check(adapter, conv_cases(Geometry.plain(2, 8, (28, 28), (3, 3)), B, 16)[2:])


SPLIT = next(v for v in VARIANTS if v.least_workgroups)


def test_long_sums_are_split_where_results_are_few() -> None:
    geometry = Geometry.plain(32, 64, (13, 13), (3, 3))
    forward, _, weight_grad = (c.kernel for c in conv_cases(geometry, B, 1))
    module = emit_kernel(weight_grad, SPLIT)
    assert module.finish is not None
    groups = math.prod(-(-extent.at(32) // per) for extent, per in module.workgroups)
    assert SPLIT.least_workgroups <= 2 * groups < 4 * SPLIT.least_workgroups
    shares = groups // len(range(0, 64, 64)) // len(range(0, 288, 64))
    assert module.finish.scratch_bytes == Dim.of(4 * 64 * 288 * shares)
    short = dot_cases(128, 10, B, ta=True, tb=False, batch=1)[0].kernel
    for kernel in (forward, short):
        assert emit_kernel(kernel, SPLIT) == emit_kernel(kernel)


def test_a_sum_is_not_split_where_no_binding_is_left() -> None:
    """Scratch memory takes one of the eight; a kernel that has eight of its own keeps them."""
    product = build.dot(node("a", 64, 4096), node("b", 4096, 64))
    for others, splits in ((4, True), (5, False)):
        total = product
        for i in range(others):
            total = build.pointwise(apply("add", f32(0), f32(1)), total, node(f"c{i}", 64, 64))
        (case,) = graph_cases("sum", total, batch=1)
        assert len(case.kernel.params) == 3 + others
        assert (emit_kernel(case.kernel, SPLIT).finish is not None) == splits


def test_kernels_of_the_examples_use_templates() -> None:
    """Large products must not fall back to loops unnoticed."""
    kernels = [
        *(c.kernel for c in dot_cases(B, 128, 784, ta=False, tb=True, batch=1)),
        *(c.kernel for c in conv_cases(Geometry.plain(32, 64, (26, 26), (3, 3)), B, 1)),
    ]
    assert all(is_template(kernel) for kernel in kernels)


def is_template(kernel: Kernel) -> bool:
    head = emit_kernel(kernel).source.splitlines()[0]
    return " x " in head


def check(adapter: Adapter, cases: list[Case]) -> None:
    for case in cases:
        case.check(adapter.run(case.kernel, case.buffers, case.batch))

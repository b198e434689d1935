"""Generic kernels on a software adapter: reductions, rows, columns, views, random graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.codegen.wgsl import emit_kernel
from hearth.codegen.wgsl.layout import choose_layout
from hearth.codegen.wgsl.rewrite import merge_axes
from hearth.ir import build
from hearth.ir.dim import B
from hearth.ir.dtype import FLOAT32, INT32, UINT32
from hearth.ir.graph import Graph, WindowSpec
from hearth.ir.philox import random_words
from hearth.ir.scalar import Apply, Arg, BatchValue, Const, Coord, apply
from hearth.passes.pipeline import run_passes
from hearth.schedule.schedule import schedule
from tests.codegen.wgsl.adapter import Adapter
from tests.codegen.wgsl.cases import (
    EPSILON,
    assert_close,
    case_of,
    f32,
    graph_cases,
    kernels_of,
    map_kernel,
    node,
    random_elements,
    reduce_kernel,
)
from tests.random_graphs import data_inputs, graphs
from tests.schedule.test_schedule_keeps_meaning import places

pytestmark = pytest.mark.webgpu
Array = Any
KINDS = ("sum", "prod", "max", "min", "argmax", "argmin")
# One thread per point, several per point, a whole workgroup per point; primes and ones.
SHAPES = ((1, 1), (7, 1), (13, 31), (1, 70001), (3, 1009), (101, 97), (20000, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("points", "inner"), SHAPES)
@pytest.mark.parametrize("by_point", [False, True])
def test_a_reduction_of_floats(
    adapter: Adapter, kind: str, points: int, inner: int, by_point: bool
) -> None:
    kernel = reduce_kernel(kind, FLOAT32, points, inner, by_point=by_point)
    random = np.random.default_rng(3)
    values = random.standard_normal(points * inner)
    if kind == "prod":
        values = np.exp(values / max(1, inner) ** 0.5)
    # The longest chain of additions has about 64 + 64 + inner/16384 steps.
    case = case_of(kernel, [values.astype(np.float32)], 1, rounding=min(inner, 160))
    case.check(adapter.run(kernel, case.buffers, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [INT32, UINT32])
@pytest.mark.parametrize(("points", "inner"), [(5, 9), (4, 1009)])
def test_a_reduction_of_integers_is_exact(
    adapter: Adapter, kind: str, dtype: str, points: int, inner: int
) -> None:
    kernel = reduce_kernel(kind, dtype, points, inner, by_point=False)
    random = np.random.default_rng(4)
    values = random.integers(0, 2**31, points * inner).astype(np.uint32)
    case = case_of(kernel, [values.view(np.int32) if dtype == INT32 else values], 1)
    case.check(adapter.run(kernel, case.buffers, 1))


@pytest.mark.parametrize("kind", ["argmax", "argmin", "max", "min"])
@pytest.mark.parametrize("inner", [11, 500])
@pytest.mark.parametrize("by_point", [False, True])
def test_ties_go_to_the_first_and_nan_wins(
    adapter: Adapter, kind: str, inner: int, by_point: bool
) -> None:
    """Rows: all equal, all -inf, all +inf, a NaN late, two NaN, ±0, two equal extremes."""
    rows = np.zeros((8, inner), np.float32)
    rows[1], rows[2] = -np.inf, np.inf
    rows[3] = np.arange(inner)
    rows[3, -2] = np.nan
    rows[4, [3, 7]] = np.nan
    rows[5, 1::2] = -0.0
    rows[6, [4, inner - 1]] = 9, 9
    rows[7, [4, inner - 1]] = -9, -9
    kernel = reduce_kernel(kind, FLOAT32, 8, inner, by_point=by_point)
    values = rows.T.copy() if by_point else rows
    got = adapter.run(
        kernel, [values.ravel(), np.zeros(8, np.int32 if "arg" in kind else np.float32)], 1
    )[1]
    expected = getattr(np, kind)(rows, 1)
    assert_close(got, expected, 0.0, kind)


def test_a_long_sum_is_as_accurate_as_a_short_one(adapter: Adapter) -> None:
    """A million numbers of one sign: a running sum in float32 would be off by 1e-3."""
    count = 1 << 20
    kernel = reduce_kernel("sum", FLOAT32, 1, count, by_point=False)
    values = np.random.default_rng(5).uniform(0.9, 1.1, count).astype(np.float32)
    got = adapter.run(kernel, [values, np.zeros(1, np.float32)], 1)[1][0]
    exact = values.astype(np.float64).sum()
    assert abs(got - exact) <= 8 * EPSILON * exact


def softmax(x: build.Node, axes: list[int]) -> build.Node:
    shifted = build.pointwise(apply("sub", f32(0), f32(1)), x, build.reduce("max", x, axes))
    e = build.pointwise(apply("exp", f32(0)), shifted)
    return build.pointwise(apply("div", f32(0), f32(1)), e, build.reduce("sum", e, axes))


@pytest.mark.parametrize("columns", [1, 10, 33, 768, 1031])
@pytest.mark.parametrize("batch", [1, 6, 33])
def test_softmax_over_rows(adapter: Adapter, columns: int, batch: int) -> None:
    for case in graph_cases("softmax", softmax(node("x", B, columns), [1]), batch=batch):
        case.check(adapter.run(case.kernel, case.buffers, batch))


def batch_norm_statistics(channels: int, side: int) -> tuple[build.Node, build.Node]:
    x = node("x", B, channels, side, side)
    count = BatchValue(FLOAT32, build.ONE, B * side * side)
    mean = build.pointwise(apply("mul", f32(0), count), build.reduce("sum", x, [0, 2, 3]))
    centred = build.pointwise(apply("sub", f32(0), f32(1)), x, mean)
    square = build.pointwise(apply("mul", f32(0), f32(0)), centred)
    return mean, build.pointwise(
        apply("mul", f32(0), count), build.reduce("sum", square, [0, 2, 3])
    )


@pytest.mark.parametrize(("channels", "side", "batch"), [(1, 28, 2), (64, 7, 9), (5, 13, 1)])
def test_statistics_of_batch_normalization(
    adapter: Adapter, channels: int, side: int, batch: int
) -> None:
    for case in graph_cases("statistics", *batch_norm_statistics(channels, side), batch=batch,
                            rounding=64):  # fmt: skip
        case.check(adapter.run(case.kernel, case.buffers, batch))


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_pooling_windows_read_nothing_outside(
    adapter: Adapter, batch: int, kernel: int, stride: int, padding: int
) -> None:
    x = node("x", B, 3, 11, 9)
    spec = WindowSpec((kernel, kernel), (stride, stride), (padding, padding), (1, 1))
    pooled = build.reduce("max", build.window(x, spec, -np.inf), [4, 5])
    seen = build.window_transpose(build.reshape(pooled, pooled.shape[:4]), spec, (11, 9), 0.0)
    gradient = build.reduce("sum", seen, [4, 5])
    for case in graph_cases("pooling", pooled, gradient, batch=batch):
        case.check(adapter.run(case.kernel, case.buffers, batch))


def test_a_gather_reads_at_computed_places(adapter: Adapter) -> None:
    table, index = node("table", 5, 7), node("index", B, 7, dtype=INT32)
    picked = build.gather(table, index, 0)
    scaled = build.pointwise(apply("mul", f32(0), 3.0), picked)
    for case in graph_cases("gather", scaled, batch=6):
        case.check(adapter.run(case.kernel, case.buffers, 6))


def test_quotients_of_shifted_and_flipped_positions(adapter: Adapter) -> None:
    """What a reshape under a pad or a flip divides may be negative in parts."""
    x = node("x", B, 3, 7)
    twice = build.reshape(build.expand(x, [2, B, 3, 7]), [B, 3, 14])
    padded = build.pad(twice, [0, 1, 1], [0, 0, 0], 0.5)
    flipped = build.slice_(node("y", B, 3, 14), [0, 0, 13], [B, 3, 14], [1, 1, -1])
    rows = build.reshape(flipped, [B, 6, 7])
    again = build.reshape(build.slice_(rows, [0, 5, 6], [B, 6, 7], [1, -1, -1]), [B, 42])
    for view in (padded, again):
        for case in graph_cases("view", build.pointwise(apply("neg", f32(0)), view), batch=3):
            case.check(adapter.run(case.kernel, case.buffers, 3))


def test_random_numbers_are_those_of_philox(adapter: Adapter) -> None:
    def word(seed0: Any, seed1: Any, step: Any) -> Apply:
        stream, index = Const(UINT32, 7), apply("to_uint32", Coord(INT32, None))
        return Apply(UINT32, "random", (seed0, seed1, step, stream, index))

    x = node("x", B, 13)
    seeds = node("seed", 3, dtype=UINT32)
    parts = [build.slice_(seeds, [i], [1]) for i in range(3)]
    expr = word(*(Arg(UINT32, i) for i in range(3)))
    drawn = build.pointwise(expr, *parts, shape=x.shape)
    (kernel,) = kernels_of(drawn)
    seed = np.array([123456789, 4000000000, 42], np.uint32)
    got = adapter.run(kernel, [seed, np.zeros(65, np.uint32)], 5)[1]
    np.testing.assert_array_equal(got, random_words(*seed[:3], np.uint32(7), np.arange(65)))


def test_a_map_with_more_workgroups_than_one_dimension_holds(adapter: Adapter) -> None:
    count = 65535 * 64 + 100
    kernel = map_kernel(lambda x: apply("mul", x, 2.0), [FLOAT32], count)
    values = np.arange(count, dtype=np.float32)
    got = adapter.run(kernel, [values, np.zeros(count, np.float32)], 1)[1]
    np.testing.assert_array_equal(got, values * 2)


def test_points_with_more_workgroups_than_one_dimension_holds(adapter: Adapter) -> None:
    points, inner = 140000, 40
    kernel = reduce_kernel("sum", FLOAT32, points, inner, by_point=False)
    assert points > 65535 * choose_layout(kernel).points
    values = np.random.default_rng(6).integers(0, 9, points * inner).astype(np.float32)
    got = adapter.run(kernel, [values, np.zeros(points, np.float32)], 1)[1]
    np.testing.assert_array_equal(got, values.reshape(points, inner).sum(1))


def test_an_update_in_place_reads_before_it_writes(adapter: Adapter) -> None:
    """Two stores over one element, the second of which reads what the first overwrites."""
    from hearth.ir.dim import Dim
    from hearth.ir.index import axis
    from hearth.ir.kernel import Kernel, Load, Param, Store

    at, size = axis(0, 5), Dim.of(5)
    x, y = Load(FLOAT32, 0, at), Load(FLOAT32, 1, at)
    stages = (Store((), 0, at, apply("add", x, y)), Store((), 1, at, apply("sub", x, y)))
    params = (Param(FLOAT32, size, True, True), Param(FLOAT32, size, True, True))
    kernel = Kernel("swap", params, (size,), stages)
    a, b = np.arange(5, dtype=np.float32), np.full(5, 2, np.float32)
    got = adapter.run(kernel, [a, b], 1)
    np.testing.assert_array_equal(got[0], a + b)
    np.testing.assert_array_equal(got[1], a - b)


def test_equal_kernels_have_equal_text() -> None:
    def kernel(name: str) -> Any:
        return kernels_of(softmax(node(name, B, 100), [1]))[0]

    assert emit_kernel(kernel("a")).source == emit_kernel(kernel("b")).source


def test_loops_that_walk_memory_as_one_are_merged() -> None:
    x, y = node("x", B, 4, 5, 6), node("y", 4, 1, 1)
    (kernel,) = kernels_of(build.pointwise(apply("add", f32(0), f32(1)), x, y))
    assert [str(e) for e in merge_axes(kernel).axes] == ["B", "4", "30"]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.sampled_from([1, 2, 5]))
def test_the_kernels_of_random_graphs(adapter: Adapter, graph: Graph, batch: int) -> None:
    plan = schedule(run_passes(graph), data_inputs(), places())
    random = np.random.default_rng(7)
    for step in plan.steps:
        kernel = step.kernel
        inputs = [
            random_elements(random, p.dtype, p.size.at(batch)) for p in kernel.params if p.is_read
        ]
        case = case_of(kernel, inputs, batch, rounding=64)
        case.check(adapter.run(kernel, case.buffers, batch))

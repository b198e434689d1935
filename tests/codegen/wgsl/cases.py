"""Kernels with inputs and what they must compute: for wgpu and for a browser alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hearth.ir import build
from hearth.ir.dim import Dim, shape_of
from hearth.ir.dtype import BOOL, FLOAT32, STORED_AS
from hearth.ir.graph import ConvSpec, Graph, Node, Output
from hearth.ir.index import axis
from hearth.ir.kernel import Accumulate, Kernel, Load, Param, Reduction, Store
from hearth.ir.scalar import Arg, Expr, apply
from hearth.schedule.reference import run_kernel
from hearth.schedule.schedule import schedule

Array = Any
EPSILON = 2.0**-24  # the largest relative error of one float32 rounding
SMALLEST_NORMAL = 2.0**-126  # what is smaller may be flushed to zero

SPECIAL = np.array(
    [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 1.5, 2.5, -2.5, 3.5, 7, 10, 0.1, np.inf, -np.inf, np.nan,
     1e-30, -1e-30, 1e30, -1e30, 3.4e38, 88.7, -88, -103, 89, 100, 1e-6, 1e4, 12345.678, 1e7,
     2**24, -(2**24)], np.float32)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`buffers` as stored, inputs and results; `tolerance` bounds |got - expected| per element."""

    name: str
    kernel: Kernel
    buffers: tuple[Array, ...]
    batch: int
    expected: tuple[Array, ...]  # every buffer afterwards, floats in float64
    tolerance: tuple[Array, ...]

    def check(self, got: Sequence[Array]) -> None:
        for param, result, expected, tolerance in zip(
            self.kernel.params, got, self.expected, self.tolerance, strict=True
        ):
            what = f"{self.name}: {'result' if param.is_written else 'operand'}"
            assert_close(result, expected, tolerance, what)


def assert_close(got: Array, expected: Array, tolerance: Array, what: str) -> None:
    """NaN and infinities agree, and the rest is within the tolerance."""
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected, err_msg=what)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.asarray(expected).astype(np.float32)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        wrong = ~same & ~(np.abs(got - expected) <= tolerance)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} wrong, first at {i}: "
            f"{got.flat[i]!r} instead of {np.asarray(expected).flat[i]!r}"
        )


# ------------------------------------------------------------ single kernels


def map_kernel(expr_of: Callable[..., Expr], dtypes: Sequence[str], count: int) -> Kernel:
    """One expression of `count` loads of the same element."""
    at, size = axis(0, count), Dim.of(count)
    value = expr_of(*(Load(d, i, at) for i, d in enumerate(dtypes)))
    params = [Param(d, size, True, False) for d in dtypes]
    params.append(Param(value.dtype, size, False, True))
    return Kernel("map", tuple(params), (size,), (Store((), len(dtypes), at, value),))


def reduce_kernel(kind: str, dtype: str, points: int, inner: int, *, by_point: bool) -> Kernel:
    """Rows of a matrix (or columns, with `by_point`) reduced."""
    size = Dim.of(points * inner)
    i, j = axis(0, points), axis(1, inner)
    at = j * points + i if by_point else i * inner + j
    result = "int32" if kind.startswith("arg") else dtype
    from hearth.ir.kernel import Accumulator

    stages = (
        Accumulate(shape_of([inner]), (Reduction(kind, Load(dtype, 0, at)),)),
        Store((), 1, i, Accumulator(result, 0)),
    )
    params = (Param(dtype, size, True, False), Param(result, Dim.of(points), False, True))
    return Kernel(kind, params, shape_of([points]), stages)


def case_of(kernel: Kernel, inputs: Sequence[Array], batch: int, *, rounding: float = 8.0,
            name: str = "") -> Case:  # fmt: skip
    """The expected buffers by the reference in float64.

    The tolerance is `rounding` roundings of the result computed with absolute values, which for a
    sum of products is the sum of their magnitudes.
    """
    given, left = [], list(inputs)
    for param in kernel.params:
        size = param.size.at(batch)
        given.append(left.pop(0) if param.is_read else np.zeros(size, STORED_AS[param.dtype]))
        assert given[-1].shape == (size,), (given[-1].shape, size)
    expected = [_wide(b) for b in given]
    run_kernel(kernel, expected, batch)
    magnitude = [np.abs(_wide(b)) for b in given]
    with np.errstate(all="ignore"):
        run_kernel(kernel, magnitude, batch)
        tolerance = [
            rounding * EPSILON * np.maximum(np.abs(np.nan_to_num(m)), np.abs(np.nan_to_num(e)))
            + SMALLEST_NORMAL
            for m, e in zip(magnitude, expected, strict=True)
        ]
    return Case(name or kernel.name, kernel, tuple(given), batch, tuple(expected), tuple(tolerance))


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array.copy()


# ------------------------------------------------------------ kernels of graphs


def node(name: str, *shape: Dim | int, dtype: str = FLOAT32) -> Node:
    return build.input_node(name, "input", shape_of(shape), dtype)


def kernels_of(*outputs: Node) -> list[Kernel]:
    """The kernels that compute these nodes."""
    named = tuple(Output(f"y{i}", "output", n) for i, n in enumerate(outputs))
    graph = Graph(named)
    return [step.kernel for step in schedule(graph, graph.inputs, {}).steps]


def graph_cases(name: str, *outputs: Node, batch: int, seed: int = 0,
                rounding: float = 8.0) -> list[Case]:  # fmt: skip
    """A case per kernel, on random data."""
    random = np.random.default_rng(seed)
    cases = []
    for kernel in kernels_of(*outputs):
        inputs = [
            random_elements(random, p.dtype, p.size.at(batch)) for p in kernel.params if p.is_read
        ]
        label = f"{name}, {kernel.name}, B={batch}"
        cases.append(case_of(kernel, inputs, batch, rounding=rounding, name=label))
    return cases


def random_elements(random: np.random.Generator, dtype: str, count: int) -> Array:
    if dtype == FLOAT32:
        return random.standard_normal(count).astype(np.float32)
    high = 2 if dtype == BOOL else 5
    return random.integers(0, high, count).astype(STORED_AS[dtype])


def f32(position: int) -> Arg:
    return Arg(FLOAT32, position)


def relu_of_sum(x: Node, bias: Node) -> Node:
    return build.pointwise(apply("maximum", apply("add", f32(0), f32(1)), 0.0), x, bias)


def dot_cases(m: Dim | int, n: Dim | int, k: Dim | int, *, ta: bool, tb: bool,
              batch: int, lead: tuple[Dim | int, ...] = ()) -> list[Case]:  # fmt: skip
    """A matrix product with a fused bias and ReLU."""
    a = node("a", *lead, *((k, m) if ta else (m, k)))
    b = node("b", *lead, *((n, k) if tb else (k, n)))
    product = relu_of_sum(build.dot(a, b, ta, tb), node("bias", n))
    name = f"dot {(*lead, m, n, k)} {'NT'[ta]}{'NT'[tb]}"
    return graph_cases(name, product, batch=batch, rounding=8 + Dim.of(k).at(batch) ** 0.5)


@dataclass(frozen=True)
class Geometry:
    """A convolution of rank 1 or 2."""

    ci: int
    co: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @staticmethod
    def plain(ci: int, co: int, size: tuple[int, ...], kernel: tuple[int, ...],
              padding: int = 0) -> Geometry:  # fmt: skip
        one = (1,) * len(size)
        return Geometry(ci, co, size, kernel, one, (padding,) * len(size), one)


def conv_cases(g: Geometry, lead: Dim | int, batch: int) -> list[Case]:
    """Forward with bias and ReLU, input gradient and weight gradient."""
    spec = ConvSpec(g.stride, g.padding, g.dilation, g.groups)
    x, w = node("x", lead, g.ci, *g.size), node("w", g.co, g.ci // g.groups, *g.kernel)
    bias = node("bias", g.co, *(1,) * len(g.size))
    y = build.conv(x, w, spec)
    dy = node("dy", *y.shape)
    terms = int(np.prod([e.at(batch) for e in y.shape])) // g.co
    return [
        *graph_cases(f"conv {g}", relu_of_sum(y, bias), batch=batch, rounding=40),
        *graph_cases(f"conv {g}", build.conv_input_grad(dy, w, spec, g.size), batch=batch,
                     rounding=40),
        *graph_cases(f"conv {g}", build.conv_weight_grad(dy, x, spec, g.kernel), batch=batch,
                     rounding=8 + terms**0.5),
    ]  # fmt: skip

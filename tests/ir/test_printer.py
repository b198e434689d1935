"""The text of graphs and kernels: what `hearth inspect` shows and what people compare."""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.dim import B, Dim, shape_of
from hearth.ir.dtype import FLOAT32
from hearth.ir.graph import Graph, Output
from hearth.ir.index import Index, axis
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    DotTemplate,
    InRange,
    Kernel,
    Load,
    Param,
    Reduction,
    Store,
)
from hearth.ir.printer import format_graph, format_kernel
from hearth.ir.scalar import Arg, BatchValue, apply, const


def test_a_graph_is_one_line_per_node() -> None:
    x = build.input_node("input/0", "input", shape_of((B, 5)), FLOAT32)
    w = build.input_node("fc.weight", "parameter", shape_of((3, 5)), FLOAT32)
    y = build.dot(x, build.permute(w, (1, 0)), origin="model.py:4")
    e = apply("exp", Arg(FLOAT32, 0))
    halves = apply("sub", apply("mul", e, e), apply("div", e, BatchValue(FLOAT32, B, Dim.of(2))))
    z = build.reduce("sum", build.pointwise(halves, y, origin="model.py:5"), (1,))
    assert format_graph(Graph((Output("loss", "loss", z),))) == (
        "%0 = input input/0 -> float32[B, 5]\n"
        "%1 = parameter fc.weight -> float32[3, 5]\n"
        "%2 = permute(%1, order=(1, 0)) -> float32[5, 3]\n"
        "%3 = dot(%0, %2, transpose_a=False, transpose_b=False) -> float32[B, 3]  # model.py:4\n"
        "%4 = t0 = exp(%3); (t0 * t0) - (t0 / ((B) / (2))) -> float32[B, 3]  # model.py:5\n"
        "%5 = reduce(%4, kind=sum, axes=(1,)) -> float32[B, 1]\n"
        "loss loss = %5\n"
    )


def test_a_kernel_shows_its_loops_and_what_each_stage_computes() -> None:
    row, column, k = axis(0, B), axis(1, 3), axis(2, 5)
    a = Load(FLOAT32, 0, row * 5 + k)
    b = Load(FLOAT32, 1, column * 5 + k + -1, (InRange(k + -1, Dim.of(5)),), 0.0)
    product = Accumulate(shape_of((5,)), (Reduction("sum", apply("mul", a, b)),))
    relu = apply("maximum", Accumulator(FLOAT32, 0), const(0.0))
    store = Store((), 2, row * 3 + column, relu)
    params = (
        Param(FLOAT32, 5 * B, is_read=True, is_written=False),
        Param(FLOAT32, Dim.of(15), is_read=True, is_written=False),
        Param(FLOAT32, 3 * B, is_read=False, is_written=True),
    )
    template = DotTemplate(0, 1, Dim.of(1), B, Dim.of(3), Dim.of(5), False, True)
    kernel = Kernel("dot_relu", params, shape_of((B, 3)), (product, store), template, "model.py:4")
    assert format_kernel(kernel) == (
        "kernel dot_relu: 3*B points  # model.py:4\n"
        "  p0: float32[5*B] read\n"
        "  p1: float32[15] read\n"
        "  p2: float32[3*B] write\n"
        "  stage 0 is DotTemplate(a=0, b=1, batch=1, m=B, n=3, k=5, transpose_a=False, "
        "transpose_b=True)\n"
        "  for i0 < B, i1 < 3:\n"
        "    for i2 < 5:\n"
        "      r0 = sum of p0[i0*5 + i2] * (p1[i1*5 + i2 + -1] if 0 <= i2 + -1 < 5 else 0.0)\n"
        "    p2[i0*3 + i1] = maximum(r0, 0.0)\n"
    )
    assert Index() == Index.of(0)

"""Kernels with templates, as the scheduler would make them, for tests."""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.build import window_positions
from hearth.ir.dim import B, Dim, product, shape_of
from hearth.ir.dtype import FLOAT32
from hearth.ir.expr import Arg, Expr
from hearth.ir.graph import ConvSpec, Graph, Output, Triangular
from hearth.ir.index import axis, linearize
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    DotTemplate,
    Kernel,
    Load,
    Param,
    Reduction,
    Store,
)
from hearth.ir.scalar import apply
from hearth.schedule.schedule import schedule


def dot_kernel(batch: tuple[Dim | int, ...], m: Dim | int, n: Dim | int, k: Dim | int, *,
               transpose_a: bool = False, transpose_b: bool = False,
               with_epilogue: bool = True,
               triangular: Triangular | None = None) -> Kernel:  # fmt: skip
    """relu(A B + bias) as output 0 and a running sum `s += A B / 2`, or A B alone."""
    lead, m, n, k = tuple(Dim.of(b) for b in batch), Dim.of(m), Dim.of(n), Dim.of(k)
    axes = (*lead, m, n)
    *items, i, j = (axis(p, e) for p, e in enumerate(axes))
    r = axis(len(axes), k)
    at_a, shape_a = ((r, i), (k, m)) if transpose_a else ((i, r), (m, k))
    at_b, shape_b = ((j, r), (n, k)) if transpose_b else ((r, j), (k, n))
    a = Load(FLOAT32, 0, linearize((*items, *at_a), (*lead, *shape_a)))
    b = Load(FLOAT32, 1, linearize((*items, *at_b), (*lead, *shape_b)))
    count = product(lead)
    params = [
        Param(FLOAT32, count * m * k, is_read=True, is_written=False),
        Param(FLOAT32, count * k * n, is_read=True, is_written=False),
        Param(FLOAT32, product(axes), is_read=False, is_written=True),
    ]
    total: Expr = Accumulator(FLOAT32, 0)
    point = linearize((*items, i, j), axes)
    stages: list[Accumulate | Store] = [Accumulate((k,), (Reduction("sum", apply("mul", a, b)),))]
    if with_epilogue:
        params.append(Param(FLOAT32, n, is_read=True, is_written=False))
        params.append(Param(FLOAT32, product(axes), is_read=True, is_written=True))
        biased = apply("add", total, Load(FLOAT32, 3, j))
        stages.append(Store((), 2, point, apply("maximum", biased, 0.0)))
        running = apply("add", Load(FLOAT32, 4, point), apply("mul", total, 0.5))
        stages.append(Store((), 4, point, running))
    else:
        stages.append(Store((), 2, point, total))
    template = DotTemplate(0, 1, count, m, n, k, transpose_a, transpose_b, triangular)
    return Kernel("dot", tuple(params), axes, tuple(stages), template)


def conv_kernel(
    kind: str,
    channels: tuple[int, int],
    image: tuple[int, ...],
    window: tuple[int, ...],
    spec: ConvSpec,
    *,
    with_epilogue: bool,
) -> Kernel:
    """What the scheduler makes of a convolution (or a gradient of one), plus its square."""
    inputs, outputs = channels
    result = tuple(
        window_positions(Dim.of(e), k, s, p, d)
        for e, k, s, p, d in zip(
            image, window, spec.stride, spec.padding, spec.dilation, strict=True
        )
    )
    x = build.input_node("x", "input", shape_of((B, inputs, *image)), FLOAT32)
    weight = shape_of((outputs, inputs // spec.groups, *window))
    w = build.input_node("w", "input", weight, FLOAT32)
    g = build.input_node("g", "input", shape_of((B, outputs, *result)), FLOAT32)
    node, operands = {
        "forward": lambda: (build.conv(x, w, spec), (x, w)),
        "input_grad": lambda: (build.conv_input_grad(g, w, spec, image), (g, w)),
        "weight_grad": lambda: (build.conv_weight_grad(g, x, spec, window), (g, x)),
    }[kind]()
    if with_epilogue:
        value = Arg(FLOAT32, 0)
        node = build.pointwise(apply("add", value, apply("mul", value, value)), node)
    graph = Graph((Output("y", "output", node),))
    (step,) = schedule(graph, list(operands), {}).steps
    return step.kernel

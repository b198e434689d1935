"""Matrix products and convolutions as loops: what each reads, and the template it fits."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.ir.dim import Shape, product
from hearth.ir.dtype import FLOAT32
from hearth.ir.graph import Conv, ConvInputGrad, ConvWeightGrad, Dot, Node
from hearth.ir.index import Index, axis, floor_div, linearize, mod
from hearth.ir.kernel import ConvTemplate, DotTemplate, Guard, Template
from hearth.schedule.views import Coords, in_range_guards, transposed_positions

Read = tuple[Node, Index, tuple[Guard, ...]]


@dataclass(frozen=True, slots=True)
class Contraction:
    """Stage 0 of a contraction kernel: its inner axes and the two elements it multiplies."""

    axes: Shape
    reads: tuple[Read, Read]


def plan(node: Node, outer: Coords) -> Contraction:
    """The summed product at a point of the output, as reads of the two operands."""
    match node.op:
        case Dot():
            return _dot(node.op, node, outer)
        case Conv():
            return _conv(node, outer)
        case ConvInputGrad():
            return _conv_input_grad(node, outer)
        case ConvWeightGrad():
            return _conv_weight_grad(node, outer)
    raise AssertionError(f"{type(node.op).__name__} is not a contraction")


def template(node: Node, a: int, b: int) -> Template | None:
    """How a target may compute the contraction faster; None where no template describes it.

    Templates multiply floats: integers take the loops.
    """
    if node.dtype != FLOAT32:
        return None
    x, y = node.inputs
    match node.op:
        case Dot(transpose_a=ta, transpose_b=tb, triangular=triangular):
            *batch, m, n = node.shape
            k = x.shape[-2] if ta else x.shape[-1]
            return DotTemplate(a, b, product(batch), m, n, k, ta, tb, triangular)
        case Conv():
            return _conv_template("forward", node, a, b, x.shape, node.shape, y.shape)
        case ConvInputGrad():
            return _conv_template("input_grad", node, a, b, node.shape, x.shape, y.shape)
        case ConvWeightGrad():
            return _conv_template("weight_grad", node, a, b, y.shape, x.shape, node.shape)
    return None


def _conv_template(kind: str, node: Node, a: int, b: int, image: Shape, result: Shape,
                   weight: Shape) -> ConvTemplate | None:  # fmt: skip
    assert isinstance(node.op, Conv | ConvInputGrad | ConvWeightGrad)
    if not all(e.is_static for e in (*image[1:], *result[1:], *weight)):
        return None
    return ConvTemplate(
        kind, a, b, node.op.spec, image[0], image[1].static, result[1].static,
        tuple(e.static for e in image[2:]), tuple(e.static for e in result[2:]),
        tuple(e.static for e in weight[2:]),
    )  # fmt: skip


def contracted(node: Node) -> Shape:
    """The extents that a contraction sums over."""
    return plan(node, tuple(axis(i, e) for i, e in enumerate(node.shape))).axes


def _inner(outer: Coords, extents: Shape) -> Coords:
    return tuple(axis(len(outer) + i, e) for i, e in enumerate(extents))


def _dot(op: Dot, node: Node, outer: Coords) -> Contraction:
    a, b = node.inputs
    *batch, m, n = outer
    k_extent = a.shape[-2] if op.transpose_a else a.shape[-1]
    (k,) = _inner(outer, (k_extent,))
    at_a = (*batch, k, m) if op.transpose_a else (*batch, m, k)
    at_b = (*batch, n, k) if op.transpose_b else (*batch, k, n)
    reads = ((a, linearize(at_a, a.shape), ()), (b, linearize(at_b, b.shape), ()))
    return Contraction((k_extent,), reads)


def _conv(node: Node, outer: Coords) -> Contraction:
    assert isinstance(node.op, Conv)
    (x, w), spec = node.inputs, node.op.spec
    axes = w.shape[1:]
    c, *taps = _inner(outer, axes)
    n, co, *out = outer
    group = floor_div(co, w.shape[0] // spec.groups)
    spatial = _taps_to_spatial(out, taps, spec.stride, spec.dilation, spec.padding)
    at_x = (n, group * w.shape[1] + c, *spatial)
    guards = in_range_guards(spatial, x.shape[2:])
    reads = (
        (x, linearize(at_x, x.shape), guards),
        (w, linearize((co, c, *taps), w.shape), ()),
    )
    return Contraction(axes, reads)


def _conv_input_grad(node: Node, outer: Coords) -> Contraction:
    assert isinstance(node.op, ConvInputGrad)
    (g, w), spec = node.inputs, node.op.spec
    per_group = w.shape[0] // spec.groups
    axes = (per_group, *w.shape[2:])
    c, *taps = _inner(outer, axes)
    n, ci, *spatial = outer
    group, within = floor_div(ci, w.shape[1]), mod(ci, w.shape[1])
    positions, guards = transposed_positions(
        spatial, taps, spec.stride, spec.padding, spec.dilation, g.shape[2:]
    )
    co = group * per_group + c
    reads = (
        (g, linearize((n, co, *positions), g.shape), guards),
        (w, linearize((co, within, *taps), w.shape), ()),
    )
    return Contraction(axes, reads)


def _conv_weight_grad(node: Node, outer: Coords) -> Contraction:
    assert isinstance(node.op, ConvWeightGrad)
    (g, x), spec = node.inputs, node.op.spec
    axes = (g.shape[0], *g.shape[2:])
    n, *out = _inner(outer, axes)
    co, ci, *taps = outer
    group = floor_div(co, g.shape[1] // spec.groups)
    spatial = _taps_to_spatial(out, taps, spec.stride, spec.dilation, spec.padding)
    guards = in_range_guards(spatial, x.shape[2:])
    at_x = (n, group * node.shape[1] + ci, *spatial)
    reads = (
        (g, linearize((n, co, *out), g.shape), ()),
        (x, linearize(at_x, x.shape), guards),
    )
    return Contraction(axes, reads)


def _taps_to_spatial(
    out: list[Index], taps: list[Index], stride: tuple[int, ...],
    dilation: tuple[int, ...], padding: tuple[int, ...],
) -> Coords:  # fmt: skip
    return tuple(
        o * s + k * d - p
        for o, k, s, d, p in zip(out, taps, stride, dilation, padding, strict=True)
    )

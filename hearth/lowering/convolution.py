"""Convolutions of any rank and their gradients.

A transposed convolution is the input gradient of an ordinary one with the same weight, so its own
gradients are the ordinary forward convolution and the weight gradient with swapped operands.
"""

from __future__ import annotations

from collections.abc import Sequence

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dim import Dim, Shape, shape_of
from hearth.ir.graph import ConvSpec, Node
from hearth.ir.scalar import Arg, apply
from hearth.lowering.rules import lowers

Extents = Sequence[Dim | int]


@lowers("aten.convolution.default")
def _convolution(
    site: AtenNode, x: Node, w: Node, bias: Node | None, stride: Extents, padding: Extents,
    dilation: Extents, transposed: bool, _: Extents, groups: int,
) -> Node:  # fmt: skip
    spec = _spec(len(x.shape) - 2, stride, padding, dilation, groups)
    if transposed:
        y = build.conv_input_grad(x, w, spec, site.shape[2:], site.origin)
    else:
        y = build.conv(x, w, spec, site.origin)
    if bias is None:
        return y
    per_channel = build.reshape(bias, (*bias.shape, *(1,) * spec.rank), site.origin)
    total = apply("add", Arg(y.dtype, 0), Arg(y.dtype, 1))
    return build.pointwise(total, y, per_channel, origin=site.origin)


@lowers("hearth.conv_input_grad")
def _conv_input_grad(
    site: AtenNode, g: Node, w: Node, _: Extents, stride: Extents, padding: Extents,
    dilation: Extents, transposed: bool, __: Extents, groups: int,
) -> Node:  # fmt: skip
    spec = _spec(len(g.shape) - 2, stride, padding, dilation, groups)
    if not transposed:
        return build.conv_input_grad(g, w, spec, site.shape[2:], site.origin)
    # An output padding as large as the stride leaves positions beyond the input: cut them.
    return _cropped(build.conv(g, w, spec, site.origin), site.shape, site.origin)


@lowers("hearth.conv_weight_grad")
def _conv_weight_grad(
    site: AtenNode, g: Node, x: Node, _: Extents, stride: Extents, padding: Extents,
    dilation: Extents, transposed: bool, __: Extents, groups: int,
) -> Node:  # fmt: skip
    spec = _spec(len(g.shape) - 2, stride, padding, dilation, groups)
    small, large = (x, g) if transposed else (g, x)
    return build.conv_weight_grad(small, large, spec, site.shape[2:], site.origin)


def _spec(
    rank: int, stride: Extents, padding: Extents, dilation: Extents, groups: Dim | int
) -> ConvSpec:
    return ConvSpec(
        _repeated(stride, rank), _repeated(padding, rank), _repeated(dilation, rank),
        Dim.of(groups).static,
    )  # fmt: skip


def _repeated(values: Extents, rank: int) -> tuple[int, ...]:
    """PyTorch lets one number stand for all axes."""
    numbers = tuple(e.static for e in shape_of(values))
    return numbers * rank if len(numbers) == 1 else numbers


def _cropped(x: Node, shape: Shape, origin: str) -> Node:
    return build.slice_(x, (0,) * len(shape), shape, origin=origin)

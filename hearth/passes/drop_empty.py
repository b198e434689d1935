"""Nothing is computed from tensors without elements.

a value without elements            -> a constant of its shape
a reduction over nothing            -> the value it starts from
a product or convolution of nothing -> zeros
padding around nothing              -> the fill value
"""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.dim import Dim
from hearth.ir.graph import (
    Constant,
    Conv,
    ConvInputGrad,
    ConvWeightGrad,
    Dot,
    Graph,
    Input,
    Node,
    Pack,
    Pad,
    Reduce,
    Window,
    WindowTranspose,
)
from hearth.ir.rewriting import rewrite_nodes
from hearth.ir.scalar import Scalar, const

_START = {"sum": 0, "prod": 1}  # the other kinds have no value over nothing


def drop_empty(graph: Graph) -> Graph:
    return rewrite_nodes(graph, _drop)


def _drop(node: Node) -> Node:
    value = _value_of(node)
    if value is None:
        return node
    return build.pointwise(const(value, node.dtype), shape=node.shape, origin=node.origin)


def _value_of(node: Node) -> Scalar | None:
    """The value of all elements, where there are none or none that they are made of."""
    if _is_empty(node):
        return None if isinstance(node.op, Input | Constant | Pack) else 0
    if not any(map(_is_empty, node.inputs)):
        return None
    match node.op:
        case Reduce(kind=kind):
            return _START.get(kind)
        case Dot() | Conv() | ConvInputGrad() | ConvWeightGrad():
            return 0
        case Pad(fill=fill) | Window(fill=fill) | WindowTranspose(fill=fill):
            return fill
    return None


def _is_empty(node: Node) -> bool:
    return Dim() in node.shape

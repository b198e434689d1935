"""What can lie in memory, and whose memory a node reads."""

from __future__ import annotations

from hearth.ir.graph import (
    Constant,
    Conv,
    ConvInputGrad,
    ConvWeightGrad,
    Dot,
    Input,
    Node,
    Pointwise,
    Recompute,
    Reduce,
    Reshape,
)

CONTRACTIONS = (Dot, Conv, ConvInputGrad, ConvWeightGrad)
COMPUTED = (Pointwise, Reduce, *CONTRACTIONS)  # what a kernel can store


def base_of(node: Node) -> Node:
    """The node whose memory, read in row-major order, is this node's value."""
    while isinstance(node.op, Reshape | Recompute):
        node = node.inputs[0]
    return node


def is_stored(node: Node, roots: set[Node]) -> bool:
    return node in roots or isinstance(node.op, Input | Constant)

"""Compose views of views, and drop views that do nothing.

permute(permute(x))   -> permute(x) or x
reshape(reshape(x))   -> reshape(x) or x
permute that only moves axes of extent 1   -> reshape
expand(expand(x))     -> expand(x)
"""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.dim import Dim
from hearth.ir.graph import Expand, Graph, Node, Permute, Reshape
from hearth.ir.rewriting import rewrite_nodes


def simplify_views(graph: Graph) -> Graph:
    return rewrite_nodes(graph, _simplify)


def _simplify(node: Node) -> Node:
    match node.op:
        case Reshape():
            return _reshape(node)
        case Permute(order=order):
            return _permute(node, order)
        case Expand() if isinstance(node.inputs[0].op, Expand):
            return build.expand(node.inputs[0].inputs[0], node.shape, node.origin)
    return node


def _reshape(node: Node) -> Node:
    (x,) = node.inputs
    while isinstance(x.op, Reshape):
        (x,) = x.inputs
    return build.reshape(x, node.shape, node.origin)


def _permute(node: Node, order: tuple[int, ...]) -> Node:
    (x,) = node.inputs
    if isinstance(x.op, Permute):
        return build.permute(x.inputs[0], [x.op.order[i] for i in order], node.origin)
    moved = [i for i in order if x.shape[i] != Dim.of(1)]
    if moved == sorted(moved):
        return _reshape(build.reshape(x, node.shape, node.origin)) if x.shape != node.shape else x
    return node

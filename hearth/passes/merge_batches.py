"""Multiply by a broadcast matrix once, not by a copy of it for each item of a batch.

dot(a[n, m, k], expand(b[k, j]))   -> reshape(dot(reshape(a, [n·m, k]), b), [n, m, j])

PyTorch does so itself, but for an input whose axes are permuted it broadcasts the matrix: the input
projection of attention in evaluation, whose batch is the second axis.
"""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.dim import Dim, product
from hearth.ir.graph import Dot, Expand, Graph, Node
from hearth.ir.rewriting import rewrite_nodes


def merge_batches(graph: Graph) -> Graph:
    return rewrite_nodes(graph, _merge)


def _merge(node: Node) -> Node:
    if not isinstance(node.op, Dot) or node.op.transpose_a or len(node.shape) < 3:
        return node
    a, b = node.inputs
    matrix = _broadcast_matrix(b)
    if matrix is None:
        return node
    rows = build.reshape(a, (product(a.shape[:-1]), a.shape[-1]), node.origin)
    merged = build.dot(rows, matrix, False, node.op.transpose_b, node.origin)
    return build.reshape(merged, node.shape, node.origin)


def _broadcast_matrix(b: Node) -> Node | None:
    """The matrix that every item of a batch is."""
    if not isinstance(b.op, Expand):
        return None
    (source,) = b.inputs
    *batch, k, n = source.shape
    if (k, n) != b.shape[-2:] or any(extent != Dim.of(1) for extent in batch):
        return None
    return build.reshape(source, (k, n), b.origin)

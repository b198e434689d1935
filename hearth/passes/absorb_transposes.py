"""Let matrix products read transposed operands, and write transposed results, directly.

dot(permute(a), b)   -> dot(a, b) with the flag of `a` flipped
permute(dot(a, b))   -> dot(b, a) with both flags flipped and exchanged, where nothing else
                        needs the product
"""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.graph import Dot, Graph, Node, Permute, users_of
from hearth.ir.rewriting import rewrite_nodes


def absorb_transposes(graph: Graph) -> Graph:
    """Run after simplify_views, which composes permutations first."""
    graph = rewrite_nodes(graph, _absorb_operands)
    only_permuted = {
        node for node, users in users_of(graph).items()
        if isinstance(node.op, Dot) and all(_swaps_last_two(user) for user in users)
    } - {output.node for output in graph.outputs}  # fmt: skip
    return _exchange(graph, only_permuted)


def _absorb_operands(node: Node) -> Node:
    if not isinstance(node.op, Dot):
        return node
    (a, b), flip_a, flip_b = node.inputs, node.op.transpose_a, node.op.transpose_b
    if _swaps_last_two(a):
        a, flip_a = a.inputs[0], not flip_a
    if _swaps_last_two(b):
        b, flip_b = b.inputs[0], not flip_b
    if (a, b) == node.inputs:
        return node
    return build.dot(a, b, flip_a, flip_b, node.origin)


def _exchange(graph: Graph, products: set[Node]) -> Graph:
    """Replace permute(dot(a, b)) by dot(b, a) for the given products."""
    exchanged: dict[Node, Node] = {}

    def rule(node: Node) -> Node:
        if isinstance(node.op, Permute) and node.inputs[0] in exchanged:
            return exchanged[node.inputs[0]]
        return node

    def remember(node: Node, original: Node) -> Node:
        if original in products:
            assert isinstance(node.op, Dot)
            (a, b), op = node.inputs, node.op
            exchanged[node] = build.dot(b, a, not op.transpose_b, not op.transpose_a, node.origin)
        return node

    return rewrite_nodes(graph, rule, remember)


def _swaps_last_two(node: Node) -> bool:
    rank = len(node.shape)
    return isinstance(node.op, Permute) and node.op.order == (*range(rank - 2), rank - 1, rank - 2)

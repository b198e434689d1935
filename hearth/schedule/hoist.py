"""Values that a later kernel would compute from several stored ones are stored instead of them.

GELU after a product: its gradient needs the product and its tanh (or erf), which both would wait in
memory from the forward to the backward pass.  The derivative is a function of the product alone; so
the product's kernel computes it beside its other results, and only the derivative waits.
"""

from __future__ import annotations

from hearth.ir.dim import product
from hearth.ir.graph import Constant, Graph, Input, Node, Pointwise, Reshape, users_of
from hearth.schedule.roots import direct_reads
from hearth.schedule.storage import CONTRACTIONS, base_of


def hoist_derivatives(graph: Graph, roots: set[Node]) -> set[Node]:
    """The stored values, with such functions of a contraction in the place of what they read."""
    users = users_of(graph)
    for source in graph.nodes:
        if isinstance(source.op, CONTRACTIONS):
            family = _functions_of(source, users)
            frontier = _frontier(family, users, roots)
            if len(_stored_behind(frontier, roots) & family) > 1:
                roots = _exchanged(graph.nodes, roots, family, frontier)
    return roots


def _functions_of(source: Node, users: dict[Node, list[Node]]) -> set[Node]:
    """The values that the kernel of a contraction can compute, point by point."""
    family, points, waiting = {source}, product(source.shape), list(users[source])
    while waiting:
        node = waiting.pop()
        is_map = isinstance(node.op, Pointwise) and product(node.shape) == points
        is_one = is_map or isinstance(node.op, Reshape)
        if node not in family and is_one and all(x in family or _is_given(x) for x in node.inputs):
            family.add(node)
            waiting += users[node]
    return family


def _is_given(node: Node) -> bool:
    return isinstance(base_of(node).op, Input | Constant)


def _frontier(family: set[Node], users: dict[Node, list[Node]], roots: set[Node]) -> set[Node]:
    """The last functions on the way to other kernels, as far as they are not stored."""
    new = {n for n in family if isinstance(n.op, Pointwise) and n not in roots}
    return {node for node in new if not family.issuperset(users[node])}


def _stored_behind(nodes: set[Node], roots: set[Node]) -> set[Node]:
    """The stored values that computing these reads."""
    found: set[Node] = set()
    waiting, seen = list(nodes), set(nodes)
    while waiting:
        for x in set(waiting.pop().inputs) - seen:
            seen.add(x)
            (found.add if x in roots else waiting.append)(x)
    return found


def _exchanged(nodes: list[Node], roots: set[Node], family: set[Node],
               frontier: set[Node]) -> set[Node]:  # fmt: skip
    """The roots with the frontier, if that stores and reads fewer values."""
    new = roots | frontier
    return min(roots, new, key=lambda own: _traffic(nodes, own, family))


def _traffic(nodes: list[Node], roots: set[Node], family: set[Node]) -> int:
    """How many values of the family are stored for other kernels, and how often these read one."""
    reads = direct_reads(nodes, roots)
    outside = [reads[node] & family for node in roots if node not in family]
    return len(set().union(*outside)) + sum(map(len, outside))

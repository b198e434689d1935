"""Merge nodes that compute the same value (global value numbering).

Random numbers are pure functions of (seed, stream, step, element), so they merge like any other
value.
"""

from __future__ import annotations

from collections.abc import Hashable

from hearth.ir.graph import Graph, Node, Pointwise
from hearth.ir.rewriting import rewrite_nodes
from hearth.ir.scalar import Apply, Expr, walk


def eliminate_common(graph: Graph) -> Graph:
    known: dict[Hashable, Node] = {}
    expressions = ExprNumbers()

    def rule(node: Node) -> Node:
        op = node.op
        what = expressions.number(op.expr) if isinstance(op, Pointwise) else op
        return known.setdefault((type(op), what, node.inputs, node.shape, node.dtype), node)

    return rewrite_nodes(graph, rule)


class ExprNumbers:
    """Equal numbers for expressions of equal structure."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def number(self, root: Expr) -> int:
        local: dict[int, int] = {}
        for expr in walk([root]):
            local[id(expr)] = self._numbers.setdefault(_key(expr, local), len(self._numbers))
        return local[id(root)]


def _key(expr: Expr, local: dict[int, int]) -> Hashable:
    if isinstance(expr, Apply):
        return (expr.op, tuple(local[id(a)] for a in expr.args))
    fields = (getattr(expr, name) for name in type(expr).__slots__)
    # repr tells 0.0 from -0.0 and makes NaN equal to itself.
    return (type(expr), expr.dtype, *(repr(value) for value in fields))

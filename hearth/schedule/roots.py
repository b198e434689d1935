"""Which values are stored in memory, and which are recomputed inside the kernels that need them.

Reductions, contractions, what contractions read, and outputs are always stored.  A pointwise value
is stored when several kernels need it or when a view would compute its elements many times over,
unless it is cheap: a few simple operations on at most one full-size operand.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.ir.dim import Dim, product
from hearth.ir.graph import (
    Constant,
    Expand,
    Gather,
    Graph,
    Input,
    Node,
    Pack,
    Pointwise,
    Reduce,
    Window,
    WindowTranspose,
    users_of,
)
from hearth.ir.scalar import Apply, walk
from hearth.schedule.emit import CONTRACTIONS, base_of

# Operations that cost much more than reading a value back from memory.
EXPENSIVE_OPS = frozenset(
    ("exp", "expm1", "log", "log1p", "pow", "tanh", "sigmoid", "erf", "gelu", "sin", "cos",
     "random", "sqrt", "rsqrt", "div")
)  # fmt: skip
EXPENSIVE_COST = 4
CHEAP_COST = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What recomputing one element takes: operations, and operands as large as the value."""

    operations: int
    operands: frozenset[Node]

    @property
    def is_cheap(self) -> bool:
        return self.operations <= CHEAP_COST and len(self.operands) <= 1


def choose_roots(graph: Graph) -> set[Node]:
    """The nodes whose values get a buffer of their own."""
    nodes = graph.nodes
    roots = {base_of(output.node) for output in graph.outputs}
    for node in nodes:
        if isinstance(node.op, (Reduce, Pack, *CONTRACTIONS)):
            roots.add(node)
        if isinstance(node.op, (Pack, *CONTRACTIONS)):
            roots.update(base_of(x) for x in node.inputs)
    roots = {r for r in roots if not isinstance(r.op, Input | Constant)}
    return _store_what_is_shared(graph, nodes, roots)


def _store_what_is_shared(graph: Graph, nodes: list[Node], roots: set[Node]) -> set[Node]:
    costs = _costs(nodes, roots)
    users = users_of(graph)
    consumers: dict[Node, set[Node]] = {}
    for node in reversed(nodes):
        found: set[Node] = set()
        for user in users[node]:
            found |= {user} if user in roots else consumers[user]
        consumers[node] = found
        if not isinstance(node.op, Pointwise) or node in roots or costs[node].is_cheap:
            continue
        repeats = any(_repeats(node, user) for user in users[node])
        if len(found) > 1 or (repeats and product(node.shape) != Dim.of(1)):
            roots.add(node)
    return roots


def _repeats(node: Node, user: Node) -> bool:
    """Whether a user computes an element of the node more than once."""
    match user.op:
        case Window(spec=spec) | WindowTranspose(spec=spec):
            return spec.stride != spec.kernel
        case Expand() | Gather():
            return True
        case Pointwise():
            return product(user.shape) != product(node.shape)
    return False


def _costs(nodes: list[Node], roots: set[Node]) -> dict[Node, Cost]:
    costs: dict[Node, Cost] = {}
    for node in nodes:
        operations = _operations(node) if isinstance(node.op, Pointwise) else 0
        operands: set[Node] = set()
        for x in node.inputs:
            if x in roots or isinstance(x.op, Input | Constant):
                if product(x.shape) == product(node.shape) and product(x.shape) != Dim.of(1):
                    operands.add(x)
            else:
                operations += costs[x].operations
                operands |= costs[x].operands
        costs[node] = Cost(operations, frozenset(operands))
    return costs


def _operations(node: Node) -> int:
    assert isinstance(node.op, Pointwise)
    applied = [e.op for e in walk([node.op.expr]) if isinstance(e, Apply)]
    return sum(EXPENSIVE_COST if op in EXPENSIVE_OPS else 1 for op in applied)

"""Which values are stored in memory, and which are recomputed inside the kernels that need them.

Reductions, contractions, what contractions read, and outputs are always stored.  A pointwise value
is stored when several kernels need it or when a view would compute its elements many times over,
unless it is cheap: a few simple operations on at most one full-size operand.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    Recompute,
    Reduce,
    Window,
    WindowTranspose,
    users_of,
)
from hearth.ir.scalar import Apply, walk
from hearth.schedule.storage import CONTRACTIONS, base_of, is_stored

# Operations that cost much more than reading a value back from memory.
EXPENSIVE_OPS = frozenset(
    ("exp", "expm1", "log", "log1p", "pow", "tanh", "sigmoid", "erf", "gelu", "sin", "cos",
     "random", "sqrt", "rsqrt", "div", "round_float16", "round_bfloat16")
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
    return _drop_cheap(nodes, _store_what_is_shared(graph, nodes, roots), roots)


def _store_what_is_shared(graph: Graph, nodes: list[Node], needed: set[Node]) -> set[Node]:
    roots = set(needed)
    costs = _costs(nodes, roots)
    users = users_of(graph)
    consumers: dict[Node, set[Node]] = {}
    repeated: dict[Node, bool] = {}  # whether inlining computes an element more than once
    for node in reversed(nodes):
        found: set[Node] = set()
        for user in users[node]:
            found |= {user} if user in roots else consumers[user]
        consumers[node] = found
        repeated[node] = any(
            _repeats(node, user) or (user not in roots and repeated[user]) for user in users[node]
        )
        if not isinstance(node.op, Pointwise) or node in roots or costs[node].is_cheap:
            continue
        if len(found) > 1 or (repeated[node] and product(node.shape) != Dim.of(1)):
            roots.add(node)
    return roots


def limit_depth(graph: Graph, roots: set[Node], most: int) -> set[Node]:
    """Store more values until no root inlines a chain of more than `most` nodes."""
    roots = set(roots)
    depth: dict[Node, int] = {}  # of what is inlined up to a node, the node included
    for node in graph.nodes:
        depth[node] = 1 + max((depth[x] for x in node.inputs), default=0)
        if depth[node] >= most and isinstance(node.op, Pointwise):
            roots.add(node)
        if is_stored(node, roots):
            depth[node] = 0
    return roots


def _drop_cheap(nodes: list[Node], roots: set[Node], needed: set[Node]) -> set[Node]:
    """Without values that are cheap after all, because what made them expensive is stored too."""
    kept = set(roots)
    costs: dict[Node, Cost] = {}
    for node in nodes:
        costs[node] = _cost(node, kept, costs)
        if node in kept and node not in needed and costs[node].is_cheap:
            kept.remove(node)
    return kept


def limit_operands(graph: Graph, roots: set[Node], most: int) -> set[Node]:
    """Store more values until no root alone reads and writes more than `most` buffers."""
    roots = set(roots)
    nodes = graph.nodes
    position = {node: k for k, node in enumerate(nodes)}
    reads: dict[Node, set[Node]] = {}
    k = 0
    while k < len(nodes):
        node = nodes[k]
        reads[node] = _reads(node, reads, roots)
        k += 1
        if node in roots and not isinstance(node.op, Pack) and len(reads[node]) + 1 > most:
            inlined = [n for n in inlined_by(node, roots) if isinstance(n.op, Pointwise)]
            # The largest part that fits, so that as few values as possible go through memory.
            fitting = [n for n in inlined if len(reads[n]) + 1 <= most]
            part = max(fitting, key=lambda n: len(reads[n]))
            roots.add(part)
            k = position[part] + 1  # what comes later may now read it
    return roots


def inlined_by(root: Node, roots: set[Node]) -> list[Node]:
    """The nodes that a root computes itself, as part of its own expression."""
    found: dict[Node, None] = {}
    stack = list(root.inputs)
    while stack:
        node = stack.pop()
        if node not in roots and node not in found:
            found[node] = None
            stack.extend(node.inputs)
    return list(found)


def direct_reads(nodes: list[Node], roots: set[Node]) -> dict[Node, set[Node]]:
    """For every node (inputs before users): the stored values that computing it reads."""
    reads: dict[Node, set[Node]] = {}
    for node in nodes:
        reads[node] = _reads(node, reads, roots)
    return reads


def computed_late(nodes: list[Node], roots: set[Node]) -> set[Node]:
    """The roots of recomputations: what they read comes through `Recompute`, or from other ones.

    Parameters, tables and other inputs that are read as they are say nothing of the time.
    """
    is_late: dict[Node, bool | None] = {}
    for node in nodes:
        found = {is_late[x] for x in node.inputs} - {None}
        if isinstance(node.op, Recompute):
            is_late[node] = True
        elif node in roots:
            is_late[node] = found == {True}
        else:
            is_late[node] = found == {True} if found else None
    return {node for node in roots if is_late[node]}


def _reads(node: Node, reads: dict[Node, set[Node]], roots: set[Node]) -> set[Node]:
    """`direct_reads` of one node from those of its inputs."""
    found: set[Node] = set()
    for x in node.inputs:
        found |= {x} if is_stored(x, roots) else reads[x]
    return found


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
        costs[node] = _cost(node, roots, costs)
    return costs


def _cost(node: Node, roots: set[Node], costs: Mapping[Node, Cost]) -> Cost:
    operations = operations_per_element(node) if isinstance(node.op, Pointwise) else 0
    operands: set[Node] = set()
    for x in node.inputs:
        if product(x.shape) != product(node.shape):
            continue  # a broadcast operand is small: stored on its own, or hoisted
        if x in roots or isinstance(x.op, Input | Constant):
            operands.add(x)
        else:
            operations += costs[x].operations
            operands |= costs[x].operands
    return Cost(operations, frozenset(operands))


def operations_per_element(node: Node) -> int:
    """Of a pointwise node, those that take as long as several counted several times."""
    assert isinstance(node.op, Pointwise)
    applied = [e.op for e in walk([node.op.expr]) if isinstance(e, Apply)]
    return sum(EXPENSIVE_COST if op in EXPENSIVE_OPS else 1 for op in applied)

"""Outputs and parts of packs whose value lies in memory that is not theirs alone."""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.graph import Graph, Node, Output, Pack
from hearth.ir.rewriting import exchange_nodes
from hearth.ir.scalar import Arg
from hearth.schedule.storage import COMPUTED, base_of


def copy_borrowed_outputs(graph: Graph) -> Graph:
    """Give every output and every part of a pack memory of its own, by copying where need be."""
    taken: set[Node] = set()

    def own(node: Node) -> Node:
        base = base_of(node)
        is_computed = isinstance(base.op, COMPUTED)
        if not is_computed or base in taken:
            node = base = build.pointwise(Arg(node.dtype, 0), node, origin=node.origin)
        taken.add(base)
        return node

    packed: dict[Node, Node] = {
        node: build.rebuilt(node, [own(part) for part in node.inputs])
        for node in graph.nodes
        if isinstance(node.op, Pack)
    }
    updates = {o: own(o.node) for o in graph.outputs if o.role == "update"}
    shared = taken.copy()
    outputs = []
    for output in graph.outputs:
        node = updates.get(output, output.node)
        base = base_of(node)
        is_computed = isinstance(base.op, COMPUTED)
        if output.role != "update" and (not is_computed or base in shared):
            node = build.pointwise(Arg(node.dtype, 0), node, origin=node.origin)
        outputs.append(Output(output.name, output.role, node))
    return exchange_nodes(Graph(tuple(outputs), graph.constants), packed)

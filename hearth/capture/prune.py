"""Dead code elimination on captured graphs: what no output needs is dropped, inputs are kept."""

from __future__ import annotations

from dataclasses import replace

from hearth.capture.graph import AtenGraph, Value


def prune(graph: AtenGraph) -> AtenGraph:
    """The graph without nodes and constants that no output depends on, nodes renumbered."""
    needed: set[Value] = {o.value for o in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.results):
            needed.update(node.operands())
            kept.append(node)
    nodes = tuple(replace(n, index=i) for i, n in enumerate(reversed(kept)))
    constants = {v: data for v, data in graph.constants.items() if v in needed}
    return replace(graph, nodes=nodes, constants=constants)

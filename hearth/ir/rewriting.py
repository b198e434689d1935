"""How a graph is rebuilt: bottom-up, node by node, keeping what is shared shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hearth.ir import build
from hearth.ir.graph import Graph, Node, Output

Rule = Callable[[Node], Node]


def rewrite_nodes(
    graph: Graph, rule: Rule, after: Callable[[Node, Node], Node] = lambda new, _: new
) -> Graph:
    """Apply `rule` to every node, inputs first; it sees nodes whose inputs are already rewritten.

    `after` gets the result together with the node of the old graph.
    """
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        inputs = [done[x] for x in node.inputs]
        changed = any(x is not y for x, y in zip(inputs, node.inputs, strict=True))
        done[node] = after(rule(build.rebuilt(node, inputs) if changed else node), node)
    outputs = tuple(Output(o.name, o.role, done[o.node]) for o in graph.outputs)
    return Graph(outputs, graph.constants)


def exchange_nodes(graph: Graph, replacements: Mapping[Node, Node]) -> Graph:
    """The graph with some nodes exchanged for others, which are taken as they are."""
    return rewrite_nodes(graph, lambda node: node, lambda new, old: replacements.get(old, new))

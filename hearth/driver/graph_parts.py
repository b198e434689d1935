"""A program as a graph, and what graphs that were captured apart need to become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hearth.capture.graph import AtenInput, AtenOutput
from hearth.ir import build
from hearth.ir.dim import shape_of
from hearth.ir.graph import Graph, Input, Node, Output
from hearth.ir.rewriting import rewrite_nodes
from hearth.ir.scalar import Arg, apply
from hearth.lowering.lower import IndexRange
from hearth.steps.examples import STEP


@dataclass(frozen=True)
class ProgramGraph:
    """A program ready to be scheduled, and what a caller must know of its data."""

    graph: Graph
    inputs: tuple[AtenInput, ...]  # data and hyper-parameters only
    outputs: tuple[AtenOutput, ...]
    ranges: Mapping[str, IndexRange]
    streams: int = 0  # of random numbers


def share_inputs(graph: Graph) -> Graph:
    """One node per input name: the parts of the step were captured apart."""
    known: dict[str, Node] = {}
    return rewrite_nodes(
        graph, lambda n: known.setdefault(n.op.name, n) if isinstance(n.op, Input) else n
    )


def counted_step() -> Output:
    """The next value of the step counter."""
    step = build.input_node(STEP, "step", shape_of(()), "int32")
    return Output(STEP, "update", build.pointwise(apply("add", Arg("int32", 0), 1), step))


def with_inputs(graph: Graph, nodes: Mapping[str, Node]) -> Graph:
    """The graph with nodes of another in the place of its inputs of these names."""
    return rewrite_nodes(graph, lambda n: nodes.get(n.op.name, n) if isinstance(n.op, Input) else n)

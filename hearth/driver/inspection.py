"""The graph of the program `inspect`: a step's graphs, and what describes their tensors, as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hearth.capture.graph import AtenOutput, Value
from hearth.capture.lengths import of_length
from hearth.driver.graph_parts import ProgramGraph, share_inputs, with_inputs
from hearth.driver.programs import lower_program, optimized, packed_gradients
from hearth.ir import build
from hearth.ir.dim import Dim, product
from hearth.ir.graph import Graph, Node, Output
from hearth.steps.inspection import SEEN, InspectionProgram
from hearth.steps.optimizer import OptimizerProgram


def graph_of_inspection(program: InspectionProgram, optimizer: OptimizerProgram) -> ProgramGraph:
    """What a step would do to the parameters is looked at, and not stored."""
    backward, update = lower_program(program.backward), lower_program(optimizer.graph)
    packs = packed_gradients(backward, optimizer)
    updated = with_inputs(update.graph, packs)
    changes = _changes(optimizer, backward, {o.name: o.node for o in updated.outputs})
    parts = _Parts(constants={**backward.graph.constants, **update.graph.constants})
    _describe_layers(program, backward, parts)
    for graph in program.updates:
        if graph is not None:
            parts.add(lower_program(graph), {**packs, **changes})
    return optimized(
        ProgramGraph(
            share_inputs(Graph(tuple(parts.outputs), parts.constants)),
            (*backward.inputs, *update.inputs),
            tuple(parts.results),
            {**backward.ranges, **update.ranges},
            backward.streams,
        )
    )


def _changes(
    optimizer: OptimizerProgram, backward: ProgramGraph, updated: Mapping[str, Node]
) -> dict[str, Node]:
    """updated/X for every X that is updated; parameter/X, too, where X is a parameter."""
    gradients = {o.name: o.node for o in backward.graph.outputs if o.role == "gradient"}
    nodes: dict[str, Node] = {}
    for group in optimizer.groups:
        for tensor in group.tensors:
            name, _ = tensor.input_names(group.is_flat)
            nodes[f"updated/{tensor.name}"] = updated[name]
            if not group.is_flat:
                shape = gradients[name].shape
                parameter = build.input_node(name, "parameter", shape, "float32")
                nodes[f"parameter/{name}"] = parameter
    return nodes


@dataclass
class _Parts:
    """What the program gives, as it comes together."""

    outputs: list[Output] = field(default_factory=list)
    results: list[AtenOutput] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def add(self, part: ProgramGraph, inputs: Mapping[str, Node], suffix: str = "") -> None:
        """All outputs of a program, over nodes of others in the place of its inputs."""
        for result, output in zip(
            part.outputs, with_inputs(part.graph, inputs).outputs, strict=True
        ):
            self.give(output.name + suffix, output.role, output.node, result.value)
        self.constants |= part.graph.constants

    def give(self, name: str, role: str, node: Node, value: Value) -> None:
        self.outputs.append(Output(name, role, node))
        self.results.append(AtenOutput(name, role, value))


def _describe_layers(program: InspectionProgram, backward: ProgramGraph, parts: _Parts) -> None:
    """The outputs of the forward and backward pass in their order, tensors by what they hold."""

    @cache
    def description(length: Dim) -> ProgramGraph:
        return lower_program(of_length(program.description, length))

    nodes = {(o.role, o.name): o.node for o in backward.graph.outputs}
    for o in program.backward.outputs:
        if o.role not in (SEEN, "loss", "output"):
            continue
        node = nodes[o.role, o.name]
        if o.role != SEEN:
            parts.give(o.name, o.role, node, o.value)
            continue
        length = product(node.shape)
        flat = build.reshape(node, (length,))
        parts.add(description(length), {"x": flat}, f"/{o.name}")
        if program.values:
            parts.give(f"values/{o.name}", "output", node, o.value)

"""Captured programs -> graphs: the training step is the gradients followed by the update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from hearth.capture.graph import AtenGraph
from hearth.driver.accumulation import accumulating, applying
from hearth.driver.graph_parts import ProgramGraph, counted_step, share_inputs, with_inputs
from hearth.ir import build
from hearth.ir.graph import Constant, Graph, Node
from hearth.ir.rewriting import rewrite_nodes
from hearth.lowering.lower import lower
from hearth.passes.pipeline import run_passes
from hearth.steps.optimizer import OptimizerProgram
from hearth.steps.programs import StepPrograms


def graphs_of_step(programs: StepPrograms, accumulate: bool = False) -> dict[str, ProgramGraph]:
    """train, gradients, evaluate, predict, augment where the step augments, and, to `accumulate`,
    the training step in two parts: accumulate and apply.
    """
    backward = lower_program(programs.gradients)
    update = lower_program(programs.optimizer.graph)
    kept = tuple(o for o in backward.graph.outputs if o.role != "update")
    gradients = replace(backward, graph=Graph(kept, backward.graph.constants))
    packed = packed_gradients(backward, programs.optimizer)
    graphs = {
        "train": optimized(_train(backward, update, packed)),
        "gradients": optimized(gradients),
        "evaluate": optimized(lower_program(programs.evaluate)),
        "predict": optimized(lower_program(programs.predict)),
    }
    if accumulate:
        graphs["accumulate"] = optimized(accumulating(backward, packed))
        graphs["apply"] = optimized(applying(update))
    if programs.augment is not None:
        graphs["augment"] = optimized(lower_program(programs.augment))
        known = graphs["evaluate"].ranges  # mixed labels index nothing, but are the same labels
        graphs = {k: replace(g, ranges={**known, **g.ranges}) for k, g in graphs.items()}
    return graphs


def graph_of_function(aten: AtenGraph) -> ProgramGraph:
    return optimized(lower_program(aten))


def counting_runs(program: ProgramGraph) -> ProgramGraph:
    """The program, which then counts itself as a step: its next run draws other numbers."""
    graph = program.graph
    counted = Graph((*graph.outputs, counted_step()), graph.constants)
    return replace(program, graph=share_inputs(counted))


def lower_program(aten: AtenGraph) -> ProgramGraph:
    lowered = lower(aten)
    data = tuple(i for i in aten.inputs if i.role in ("input", "target", "hyper"))
    results = tuple(
        o for o in aten.outputs if o.role in ("loss", "output", "metric", "gradient", "norm")
    )
    graph = _share_constants(lowered.graph)
    return ProgramGraph(graph, data, results, {r.input: r for r in lowered.ranges}, aten.streams)


def optimized(program: ProgramGraph) -> ProgramGraph:
    return replace(program, graph=run_passes(program.graph))


def _train(
    backward: ProgramGraph, update: ProgramGraph, packed: Mapping[str, Node]
) -> ProgramGraph:
    """Gradients flow into the flat vectors that the update reads; the step is counted."""
    updated = with_inputs(update.graph, packed)
    kept = tuple(o for o in backward.graph.outputs if o.role != "gradient")
    graph = Graph(
        (*kept, *updated.outputs, counted_step()),
        {**backward.graph.constants, **update.graph.constants},
    )
    results = tuple(o for o in backward.outputs if o.role != "gradient")
    return ProgramGraph(
        share_inputs(graph),
        (*backward.inputs, *update.inputs),
        (*results, *update.outputs),
        {**backward.ranges, **update.ranges},
        backward.streams,
    )


def packed_gradients(backward: ProgramGraph, optimizer: OptimizerProgram) -> dict[str, Node]:
    """The gradients, flat where the group is, by the names that the update has for them."""
    gradients = {o.name: o.node for o in backward.graph.outputs if o.role == "gradient"}
    given: dict[str, Node] = {}
    for group in optimizer.groups:
        for tensor in group.tensors:
            members = [gradients[name] for name in tensor.members]
            place = f"gradient/{tensor.name}"
            given[place] = (
                build.pack(place, members, tensor.layout.offsets, tensor.layout.length)
                if group.is_flat
                else gradients[tensor.name]
            )
    return given


def _share_constants(graph: Graph) -> Graph:
    """Name tables by their content, so that programs share equal ones and keep others apart."""
    names = {name: _content_name(array) for name, array in graph.constants.items()}

    def rule(node: Node) -> Node:
        if isinstance(node.op, Constant):
            return build.constant(names[node.op.name], node.shape, node.dtype, node.origin)
        return node

    renamed = rewrite_nodes(graph, rule)
    constants = {names[name]: array for name, array in graph.constants.items()}
    return Graph(renamed.outputs, constants)


def _content_name(array: Any) -> str:
    data = np.ascontiguousarray(array)
    text = f"{data.dtype}{data.shape}".encode() + data.tobytes()
    return f"constant/{sha256(text).hexdigest()[:12]}"

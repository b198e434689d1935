"""One training step in parts: `accumulate` for every micro-batch, then `apply`.

The gradients of a step are the mean of its micro-batches'.  The number of a micro-batch comes from
outside, so nothing counts in the state, and a step that is given up half way leaves nothing behind:
micro-batch 0 writes the sums that the others add to (spec/manifest.md, "Gradient accumulation").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hearth.bundle.hyper import MICRO_BATCH, MICRO_BATCHES
from hearth.capture.graph import AtenInput, Value
from hearth.driver.graph_parts import ProgramGraph, counted_step, share_inputs
from hearth.ir import build
from hearth.ir.dim import shape_of
from hearth.ir.dtype import FLOAT32, INT32, UINT32
from hearth.ir.graph import Graph, Input, Node, Output
from hearth.ir.rewriting import rewrite_nodes
from hearth.ir.scalar import Arg, Coord, apply, cast, const
from hearth.lowering.lower import IndexRange
from hearth.steps.examples import SEED

# Of what is added to the high word of the seed per micro-batch: 2**32 by the golden ratio.
SEED_INCREMENT: Final = 0x9E3779B9
_MOST: Final = 2**31 - 1


def accumulated(gradient: str) -> str:
    """The state entry with the sum of a gradient: "gradient/0" -> "accumulated/0"."""
    return "accumulated/" + gradient.removeprefix("gradient/")


def accumulating(backward: ProgramGraph, gradients: Mapping[str, Node]) -> ProgramGraph:
    """Forward and backward of a micro-batch; `gradients` are those that the update reads."""
    number = build.input_node(MICRO_BATCH, "hyper", shape_of(()), INT32)
    sums = tuple(
        Output(accumulated(name), "update", _added(accumulated(name), gradient, number))
        for name, gradient in gradients.items()
    )
    kept = tuple(o for o in backward.graph.outputs if o.role != "gradient")
    graph = share_inputs(Graph((*kept, *sums), backward.graph.constants))
    return replace(
        backward,
        graph=rewrite_nodes(graph, lambda n: _seed_of(n, number) if _is_seed(n) else n),
        inputs=(*backward.inputs, _whole_number(MICRO_BATCH)),
        outputs=tuple(o for o in backward.outputs if o.role != "gradient"),
        ranges={**backward.ranges, MICRO_BATCH: IndexRange(MICRO_BATCH, 0, _MOST, None)},
    )


def applying(update: ProgramGraph) -> ProgramGraph:
    """The update, on the means of the sums; the step is counted."""
    count = build.input_node(MICRO_BATCHES, "hyper", shape_of(()), INT32)
    mean = apply("div", Arg(FLOAT32, 0), cast(Arg(INT32, 1), FLOAT32))

    def rule(node: Node) -> Node:
        if not (isinstance(node.op, Input) and node.op.role == "gradient"):
            return node
        name = accumulated(node.op.name)
        return build.pointwise(
            mean, build.input_node(name, "workspace", node.shape, node.dtype), count
        )

    graph = rewrite_nodes(update.graph, rule)
    counted = Graph((*graph.outputs, counted_step()), graph.constants)
    return replace(
        update,
        graph=share_inputs(counted),
        inputs=(*update.inputs, _whole_number(MICRO_BATCHES)),
        ranges={**update.ranges, MICRO_BATCHES: IndexRange(MICRO_BATCHES, 1, _MOST, None)},
    )


def _added(name: str, gradient: Node, number: Node) -> Node:
    """The gradient itself for the first micro-batch, whatever lay there."""
    is_first = apply("eq", Arg(INT32, 2), 0)
    total = apply("add", Arg(FLOAT32, 0), Arg(FLOAT32, 1))
    return build.pointwise(
        apply("where", is_first, Arg(FLOAT32, 1), total),
        build.input_node(name, "workspace", gradient.shape, FLOAT32), gradient, number,
    )  # fmt: skip


def _is_seed(node: Node) -> bool:
    return isinstance(node.op, Input) and node.op.name == SEED


def _seed_of(seed: Node, number: Node) -> Node:
    """The seed of a micro-batch: the first draws what a whole step draws."""
    increment = apply("mul", cast(Coord(INT32, None), UINT32), const(SEED_INCREMENT, UINT32))
    moved = apply("mul", increment, cast(Arg(INT32, 1), UINT32))
    return build.pointwise(apply("add", Arg(UINT32, 0), moved), seed, number)


def _whole_number(name: str) -> AtenInput:
    return AtenInput(name, "hyper", Value(name, shape_of(()), INT32))

"""What runs a lowered sample; each target adds one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hearth.ir.dim import Dim
from hearth.ir.graph import Graph, Input
from hearth.ir.reference import run
from hearth.passes.pipeline import run_passes
from hearth.schedule.reference import run_kernel
from hearth.schedule.schedule import Buffer, StatePlace, schedule
from tests.schedule.memory import Memory

Array = Any
Run = Callable[[Graph, Mapping[str, Array], int], dict[str, Array]]


@dataclass(frozen=True)
class Target:
    """`run(graph, feeds, batch)` gives the outputs by name; floats have this NumPy type."""

    name: str
    floats: type[np.floating[Any]]
    run: Run

    @property
    def epsilon(self) -> float:
        return float(np.finfo(self.floats).eps)


def run_scheduled(graph: Graph, feeds: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """Passes, schedule, and the kernels themselves executed by NumPy in float32."""
    optimized = run_passes(graph)
    names = [n.op.name for n in graph.inputs if isinstance(n.op, Input)]
    places: dict[str, StatePlace] = {}
    end = 0
    for name, table in graph.constants.items():
        places[name] = StatePlace(end, 4 * table.size)
        end += -(-4 * table.size // 256) * 256
    plan = schedule(optimized, graph.inputs, places)
    memory = Memory(plan, end, batch)
    for name, table in graph.constants.items():
        shape = tuple(Dim.of(n) for n in table.shape)
        memory.view(Buffer(_device_type(table), shape, places[name]))[:] = table.ravel()
    for name in names:
        memory.view(plan.inputs[name])[:] = feeds[name].ravel()
    for step in plan.steps:
        run_kernel(step.kernel, [memory.view(b) for b in step.buffers], batch)
    return {name: memory.read(buffer) for name, buffer in plan.outputs.items()}


def _device_type(table: Array) -> str:
    return {"f": "float32", "b": "bool"}.get(table.dtype.kind, "int32")


TARGETS = {
    target.name: target
    for target in [
        Target("reference", np.float64, lambda g, f, b: run(g, f, b, np.float64)),
        Target("kernels", np.float32, run_scheduled),
    ]
}

"""Scheduled kernels, run on shared slots with updates in place, compute what the graph means."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.ir.dim import product
from hearth.ir.graph import Graph
from hearth.ir.reference import run
from hearth.ir.verify import verify
from hearth.passes.pipeline import run_passes
from hearth.schedule.fuse import MAX_PARAMS
from hearth.schedule.reference import run_kernel
from hearth.schedule.schedule import Schedule, StatePlace, schedule
from tests.random_graphs import data_inputs, feeds, graphs, state_inputs
from tests.schedule.memory import Memory

STATE_BYTES = 1024


def places() -> dict[str, StatePlace]:
    offset, table = 0, {}
    for node in state_inputs():
        size = 4 * product(node.shape).static
        table[node.origin] = StatePlace(offset, size)
        offset += -(-size // 256) * 256
    return table


def execute(plan: Schedule, values: dict[str, Any], batch: int) -> dict[str, Any]:
    memory = Memory(plan, STATE_BYTES, batch)
    for name, place in places().items():
        memory.state[place.offset : place.offset + place.size_bytes] = (
            values[name].view(np.uint8).ravel()
        )
    for name, buffer in plan.inputs.items():
        memory.view(buffer)[:] = values[name].ravel()
    for step in plan.steps:
        run_kernel(step.kernel, [memory.view(b) for b in step.buffers], batch)
    results = {name: memory.view(buffer).copy() for name, buffer in plan.outputs.items()}
    for name, place in places().items():
        region = memory.state[place.offset : place.offset + place.size_bytes]
        results[f"state/{name}"] = region.view(np.float32)
    return results


def assert_same(graph: Graph, plan: Schedule, batch: int) -> None:
    values = feeds(batch)
    expected = run(graph, values, batch, np.float64)
    expected = {o.name if o.role != "update" else f"state/{o.name}": expected[o.name]
                for o in graph.outputs}  # fmt: skip
    for name, got in execute(plan, values, batch).items():
        want = expected.get(name, values.get(name.removeprefix("state/")))
        want = np.asarray(want, np.float64).ravel()
        scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * scale, err_msg=name)


@settings(max_examples=300, deadline=None)
@given(graphs(), st.sampled_from([1, 2, 5]))
def test_a_schedule_keeps_the_meaning_of_a_graph(graph: Graph, batch: int) -> None:
    plan = schedule(verify(graph, after="test"), data_inputs(), places())
    assert all(len(step.buffers) <= MAX_PARAMS for step in plan.steps)
    assert_same(graph, plan, batch)


@settings(max_examples=150, deadline=None)
@given(graphs(max_nodes=16), st.sampled_from([1, 3]))
def test_passes_and_schedule_together_keep_the_meaning(graph: Graph, batch: int) -> None:
    plan = schedule(run_passes(graph), data_inputs(), places())
    assert_same(graph, plan, batch)


@settings(max_examples=150, deadline=None)
@given(graphs(), st.sampled_from([1, 4]))
def test_no_kernel_binds_overlapping_memory(graph: Graph, batch: int) -> None:
    plan = schedule(graph, data_inputs(), places())
    for step in plan.steps:
        places_used = [b.place for b in step.buffers]
        assert len(set(places_used)) == len(places_used)

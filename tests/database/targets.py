"""Running cases: one by one on the reference interpreter, many as one bundle on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import hearth
from hearth.capture.graph import AtenGraph
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.driver.compile import link_functions
from hearth.driver.generate import WASM_VARIANTS
from hearth.driver.programs import graph_of_function
from hearth.errors import InvalidInputError
from hearth.ir.dtype import FILE_DTYPES
from hearth.ir.reference import run
from hearth.lowering.lower import lower
from hearth.steps.examples import RANDOM_INPUTS
from hearth.steps.examples import SEED as SEED_INPUT
from hearth.steps.examples import STEP as STEP_INPUT
from tests.database.cases import Case
from tests.database.judge import SEED, STEP, default_dtype, widen

Arrays = list[np.ndarray[Any, Any]]
T = TypeVar("T")
VARIANT = {"program.wasm": WASM_VARIANTS["program.wasm"]}


@lru_cache(maxsize=1024)
def captured(case: Case, dtype: torch.dtype) -> AtenGraph:
    tensors = widen(case.tensors) if dtype == torch.float64 else case.tensors
    inputs = [
        TracedInput(f"input/{k}", "input", tuple(t.shape), t.dtype) for k, t in enumerate(tensors)
    ]

    def body(t: dict[str, torch.Tensor], _: Tracing) -> list[TracedOutput]:
        results = case.function(*(t[i.name] for i in inputs))
        return [TracedOutput(f"output/{k}", "output", y.detach()) for k, y in enumerate(results)]

    with default_dtype(dtype):
        return capture(body, [*inputs, *RANDOM_INPUTS])


def on_reference(case: Case, dtype: torch.dtype) -> Arrays:
    """The graph that is captured in a dtype, computed in float64."""
    feeds = [t.numpy() for t in widen(case.tensors)]
    return interpreted(captured(case, dtype), feeds, batch=1)


def interpreted(aten: AtenGraph, feeds: Arrays, batch: int) -> Arrays:
    """All outputs by the reference interpreter in float64, from input/0, input/1, ...."""
    graph = lower(aten, {*FILE_DTYPES, "float64"}).graph
    words = np.array([SEED & 0xFFFFFFFF, SEED >> 32], np.uint32)
    named: dict[str, Any] = {SEED_INPUT: words, STEP_INPUT: np.array(STEP, np.int32)}
    named |= {f"input/{k}": array for k, array in enumerate(feeds)}
    results = run(graph, named, batch, np.float64)
    return [results[o.name] for o in aten.outputs]


def on_device(
    device: str, cases: Mapping[str, Case], folder: Path
) -> dict[str, Arrays | Exception]:
    """In float32, as programs of one bundle; a case that cannot be compiled gives its error."""
    results: dict[str, Arrays | Exception] = {}
    graphs = {}
    for name, case in cases.items():
        try:
            graphs[name] = graph_of_function(captured(case, torch.float32))
        except Exception as error:
            results[name] = error
    if not graphs:
        return results
    backend = "webgpu" if device == "webgpu" else "wasm"
    link_functions("cases", graphs, (backend,), VARIANT).save(folder, runtime=False)
    with hearth.open_runner(folder, device, seed=SEED) as runner:
        for name, graph in graphs.items():
            given = [t.numpy() for t in cases[name].tensors]
            try:
                outputs = runner.run(name, given)
            except InvalidInputError as error:
                results[name] = error
            else:
                results[name] = [outputs[o.name] for o in graph.outputs]
    return results


def chunks(cases: Sequence[T], size: int) -> list[dict[str, T]]:
    """Programs named by the number of their case, few enough for one module."""
    named = [(f"case{k}", case) for k, case in enumerate(cases)]
    return [dict(named[i : i + size]) for i in range(0, len(named), size)]

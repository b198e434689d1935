"""A random network through Hearth: its outputs and gradients, against PyTorch's."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import numpy as np
import torch
from hypothesis import reject

import hearth
from hearth.capture.graph import AtenGraph
from hearth.capture.random import replay_random
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.driver.compile import link_functions
from hearth.driver.programs import graph_of_function
from hearth.steps.examples import RANDOM_INPUTS
from tests.database.judge import SEED, STEP, Expected, default_dtype, exact, near
from tests.database.targets import VARIANT, interpreted
from tests.generated.networks import Network

Tensors = list[torch.Tensor]
EXAMPLE_BATCH, BATCH = 7, 3


def results(module: torch.nn.Module, parameters: Tensors, inputs: Tensors) -> Tensors:
    """The float outputs, and the gradients of a weighted sum of them, inputs' included."""
    leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in (*parameters, *inputs)]
    names = [name for name, _ in module.named_parameters()]
    state = dict(zip(names, leaves, strict=False))
    outputs = torch.func.functional_call(module, state, tuple(leaves[len(names) :]))
    traced = [y for y in outputs if y.requires_grad]
    if not traced:
        return [y.detach() for y in outputs]
    total = torch.stack([(y * torch.cos(y.detach())).mean() for y in traced]).sum()
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return [y.detach() for y in outputs] + [g for g in found if g is not None]


def captured(module: torch.nn.Module, inputs: Tensors, dtype: torch.dtype) -> AtenGraph:
    parameters = list(module.parameters())
    tensors = [_typed(t, dtype) for t in (*parameters, *inputs)]
    given = [
        TracedInput(f"input/{k}", "input", tuple(t.shape), t.dtype, k >= len(parameters))
        for k, t in enumerate(tensors)
    ]

    def body(t: dict[str, torch.Tensor], _: Tracing) -> list[TracedOutput]:
        traced = [t[i.name] for i in given]
        found = results(module, traced[: len(parameters)], traced[len(parameters) :])
        return [TracedOutput(f"output/{k}", "output", y.detach()) for k, y in enumerate(found)]

    with default_dtype(dtype):
        return capture(body, [*given, *RANDOM_INPUTS])


def check(network: Network) -> None:
    """Every network on the reference, and a fixed fifth of all in WebAssembly."""
    module = network.module()
    examples, inputs = network.draw_inputs(EXAMPLE_BATCH), network.draw_inputs(BATCH)
    parameters = [p.detach() for p in module.parameters()]
    expected = Expected(
        *([t.numpy() for t in _eager(module, parameters, inputs, dtype)]
          for dtype in (torch.float64, torch.float32))
    )  # fmt: skip
    if not all(np.isfinite(y).all() for y in expected.narrow if y.dtype.kind == "f"):
        reject()
    feeds = [_typed(t, torch.float64).numpy() for t in (*parameters, *inputs)]
    found = interpreted(captured(module, examples, torch.float64), feeds, BATCH)
    problem = exact(found, expected)
    assert problem is None, f"reference: {problem}"
    if crc32(network.source.encode()) % 5 == 0:
        narrow = [_typed(t, torch.float32).numpy() for t in (*parameters, *inputs)]
        problem = near(_on_wasm(captured(module, examples, torch.float32), narrow), expected)
        assert problem is None, f"wasm: {problem}"


def _typed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor


def _eager(
    module: torch.nn.Module, parameters: Tensors, inputs: Tensors, dtype: torch.dtype
) -> Tensors:
    typed = [[_typed(t, dtype) for t in group] for group in (parameters, inputs)]
    with default_dtype(dtype), replay_random(SEED, STEP):
        return results(module, *typed)


def _on_wasm(aten: AtenGraph, feeds: list[Any]) -> list[Any]:
    with TemporaryDirectory(prefix="hearth-generated-") as folder:
        path = Path(folder) / "dist"
        programs = {"run": graph_of_function(aten)}
        link_functions("network", programs, ("wasm",), VARIANT).save(path, runtime=False)
        with hearth.open_runner(path, "wasm", seed=SEED) as runner:
            outputs = runner.run("run", feeds)
    return [outputs[o.name] for o in aten.outputs]

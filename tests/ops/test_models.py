"""Whole programs, lowered and run by the reference in float64, against eager PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hearth.capture.graph import AtenGraph
from hearth.ir.reference import run
from hearth.lowering.lower import Lowered, lower
from hearth.steps.programs import capture_evaluate, capture_gradients
from tests.capture.eager import feeds, run_eager
from tests.capture.interpreter import Interpreter
from tests.capture.test_models_agree_with_pytorch import CASES, make
from tests.steps.test_the_optimizer_program_is_torch_optim import OPTIMIZERS
from tests.steps.test_the_optimizer_program_is_torch_optim import make as make_optimizer

TOLERANCE = 1e-10
BATCHES = (1, 3, 8)


def arrays(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: t.numpy() for name, t in tensors.items()}


def assert_close(lowered: Lowered, actual: Any, expected: dict[tuple[str, str], Any]) -> None:
    """Each output within the tolerance of its tensor's scale; integers exactly."""
    for output in lowered.graph.outputs:
        role = "buffer" if output.role == "update" else output.role
        ours, want = actual[output.name], expected[role, output.name].numpy()
        assert ours.shape == want.shape, output.name
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        worst = float(np.abs(ours.astype(np.float64) - want).max(initial=0)) / scale
        assert worst <= (TOLERANCE if want.dtype.kind == "f" else 0), output.name


@pytest.mark.parametrize("name", CASES)
def test_a_lowered_gradient_program_equals_pytorch(name: str) -> None:
    step, sample, target = make(name)
    lowered = lower(capture_gradients(step, sample(4), target(4)))
    for batch in BATCHES:
        x, y = sample(batch), target(batch)
        given = arrays(feeds(step, (x,), (y,)))
        actual = run(lowered.graph, given, batch, np.float64)
        assert_close(lowered, actual, run_eager(step, (x,), (y,)))


@pytest.mark.parametrize("name", ["mlp", "lenet5", "cnn", "tower", "views"])
def test_a_lowered_evaluate_program_equals_pytorch(name: str) -> None:
    step, sample, target = make(name)
    lowered = lower(capture_evaluate(step, sample(4), target(4)))
    for batch in BATCHES:
        x, y = sample(batch), target(batch)
        given = arrays(feeds(step, (x,), (y,)))
        actual = run(lowered.graph, given, batch, np.float64)
        expected = run_eager(step, (x,), (y,), training=False)
        if y.dim() == 1:
            hits = expected["output", "output/0"].argmax(1) == y
            expected["metric", "accuracy"] = hits.double().mean()
        assert_close(lowered, actual, expected)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_lowered_optimizer_equals_its_captured_program(name: str, clip: float | None) -> None:
    _, program = make_optimizer(name, torch.float64, clip)
    lowered = lower(program.graph)
    for steps in (0, 1, 9):
        given = random_state(program.graph, steps)
        expected = Interpreter(program.graph, 1).run(given)
        actual = run(lowered.graph, arrays(given), 1, np.float64)
        by_name = {name: value for (_, name), value in expected.items()}
        assert set(by_name) == set(actual)
        for key, want in by_name.items():
            np.testing.assert_allclose(actual[key], want.numpy(), rtol=TOLERANCE, atol=1e-14)


def random_state(graph: AtenGraph, steps: int) -> dict[str, torch.Tensor]:
    """Positive float64 state (second moments are), and counters that agree with `steps`."""
    generator = torch.Generator().manual_seed(steps)
    given: dict[str, torch.Tensor] = {}
    for i in graph.inputs:
        shape = [e.static for e in i.value.shape]
        values = torch.rand(shape, dtype=torch.float64, generator=generator) + 0.1
        if i.role == "gradient":
            values = values - 0.6
        if i.name.startswith("step/"):
            values = torch.full(shape, float(steps), dtype=torch.float64)
        if i.name == "hearth/step":
            values = torch.tensor(steps, dtype=torch.int32)
        given[i.name] = values
    return given


def test_labels_and_tokens_are_promised_to_be_in_range() -> None:
    step, sample, target = make("sequence")
    ranges = {r.input: r for r in lower(capture_gradients(step, sample(4), target(4))).ranges}
    assert (ranges["target/0"].low, ranges["target/0"].high) == (0, 5)
    assert (ranges["input/0"].low, ranges["input/0"].high) == (0, 11)
    step, sample, target = make("tower")
    (promise,) = lower(capture_gradients(step, sample(4), target(4))).ranges
    assert (promise.input, promise.high, promise.except_value) == ("target/0", 5, 2)

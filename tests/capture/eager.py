"""Eager PyTorch in float64 with the compiled program's random numbers: the oracle."""

from __future__ import annotations

import copy
from typing import Any

import torch

from hearth.capture.random import replay_random, seed_words
from hearth.steps.train_step import TrainStep
from tests.capture.interpreter import Interpreter

SEED, STEP = 0x1234_5678_9ABC, 3
BATCHES = (1, 2, 5, 16, 33)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def feeds(step: TrainStep, inputs: Any, targets: Any) -> dict[str, torch.Tensor]:
    """Everything a program may ask for, by name."""
    numbered = [("input", inputs), ("target", targets)]
    return {
        **{name: p.detach() for name, p in step.parameters.items()},
        **{name: b.detach() for name, b in step.buffers.items()},
        **{f"{role}/{i}": t for role, ts in numbered for i, t in enumerate(ts)},
        "hearth/seed": seed_words(SEED),
        "hearth/step": torch.tensor(STEP),
    }


def double(value: Any) -> Any:
    """A float64 copy of a model or loss."""
    if not isinstance(value, torch.nn.Module):
        return value
    return copy.deepcopy(value).double()


def run_eager(
    step: TrainStep, inputs: Any, targets: Any, training: bool = True
) -> dict[tuple[str, str], torch.Tensor]:
    """Loss, output, gradients and buffers by (role, name), as PyTorch computes them."""
    model, loss = double(step.model).train(training), double(step.loss)
    with replay_random(SEED, STEP), torch.set_grad_enabled(training):
        outputs = model(*map(wide, inputs))
        value = loss(outputs, *map(wide, targets))
    found = {("loss", "loss"): value.detach(), ("output", "output/0"): outputs.detach()}
    if training:
        with replay_random(SEED, STEP):  # the streams of a recomputation are its forward's
            value.backward()
        named = dict(model.named_parameters())
        grads = {n: named[n].grad for n in step.trainable}
        found |= {("gradient", n): g for n, g in grads.items() if g is not None}
        found |= {("buffer", n): b for n, b in model.named_buffers()}
    return found


def largest_error(graph: Any, batch: int, given: Any, expected: Any) -> float:
    """The largest error of any float output, relative to its tensor's scale; integers exactly."""
    actual = Interpreter(graph, batch).run(given)
    worst = 0.0
    for key, value in actual.items():
        want = expected[key]
        assert value.shape == want.shape, (key, value.shape, want.shape)
        if value.is_floating_point():
            scale = max(1.0, want.abs().max().item())
            worst = max(worst, (value - want).abs().max().item() / scale)
        else:
            assert torch.equal(value, want), key
    return worst

"""Random cases of a training step, and PyTorch's results for them, computed when first asked for.

A case is a state (perturbed weights, at first) and ten batches.  Its results come from eager
PyTorch: in float64 (what is right), in the precision of the step (what rounding does to PyTorch
itself), and in that with state and inputs moved by about one rounding (how far apart right answers
may lie).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hearth.bundle.manifest import State
from hearth.bundle.read import Bundle
from hearth.driver.oracle import Oracle
from hearth.driver.samples import random_batch
from hearth.runtime.runner import Batch
from hearth.steps.train_step import TrainStep

Array = NDArray[Any]
Arrays = dict[str, Array]
# What it is (output, loss, gradient; losses, weight, optimizer), and its name.
Key = tuple[str, str]
Results = Mapping[Key, Array]

BATCH_SIZES: Final = (1, 2, 3, 4, 5, 8)
TRAIN_STEPS: Final = 10
PERTURBATION: Final = 0.1  # of a weight's own spread
SMALLEST_SPREAD: Final = 0.05
ROUNDING: Final = {"float32": 2.0**-23, "float16": 2.0**-11, "bfloat16": 2.0**-8}


class Case:
    """`once` is one forward and backward pass over the first batch, `trained` a step for each.

    `start` is a runner's state: weights, and what the optimizer has gathered in `steps` steps.
    """

    def __init__(
        self, step: TrainStep, start: Arrays, batches: Sequence[Batch], number: int, steps: int = 0
    ) -> None:
        self.step, self.start, self.batches = step, start, batches
        self.number, self.steps = number, steps
        self._known: dict[Any, Results] = {}

    def going_on(self, state: Arrays, batch: int) -> Case:
        """One step, with this batch of the case, from the state of a run that has come so far."""
        return Case(self.step, state, self.batches[batch : batch + 1], self.number, batch)

    def exact(self, kind: str) -> Results:
        return self._results(kind, torch.float64, None)

    def rounded(self, kind: str) -> Results:
        return self._results(kind, torch.float32, None)

    def moved(self, kind: str, draw: int, gradient_error: float = 0.0) -> Results:
        """`gradient_error`: how far training gradients may err, relative to their largest."""
        return self._results(kind, torch.float32, draw, gradient_error)

    def _results(
        self, kind: str, dtype: torch.dtype, draw: int | None, gradient_error: float = 0.0
    ) -> Results:
        key = (kind, dtype, draw, gradient_error)
        if key not in self._known:
            self._known[key] = self._compute(*key)
        return self._known[key]

    def _compute(
        self, kind: str, dtype: torch.dtype, draw: int | None, gradient_error: float
    ) -> Results:
        rng = np.random.default_rng((self.number, draw)) if draw is not None else None
        oracle = Oracle(self.step, dtype)
        rounding = ROUNDING[self.step.precision]
        start = {k: moved_by_rounding(v, rng, rounding) for k, v in self.start.items()}
        oracle.load_state(start, self.steps)
        batches = [
            (
                tuple(moved_by_rounding(x, rng, rounding) for x in inputs),
                tuple(moved_by_rounding(y, rng, rounding) for y in targets),
            )
            for inputs, targets in self.batches
        ]
        if kind == "once":
            result = oracle.gradients(*batches[0], self.number)
            gradients = {n: result.gradients[n] for n in self.step.trainable}
            return named(result.loss, result.outputs, gradients)
        disturb = None
        if rng is not None and gradient_error:
            disturb = partial(moved, rng=rng, amount=gradient_error)
        losses = [oracle.train(*batch, self.number, disturb).loss for batch in batches]
        return trained(losses, oracle.weights, oracle.optimizer_state)


def random_case(step: TrainStep, bundle: Bundle, number: int, seed: int) -> Case:
    """Ten batches of one size, and weights that no other case has."""
    rng = np.random.default_rng((seed, number))
    program = bundle.manifest.programs["train"]
    parameters = [s for s in bundle.manifest.state if s.role == "parameter"]
    batch = max(BATCH_SIZES[number % len(BATCH_SIZES)], _smallest_batch(step))
    weights = perturbed(bundle.weights(), parameters, rng)
    positive = step.augmentation is not None  # mostly images, from 0 to 1
    batches = [
        random_batch(program.inputs, batch, rng, positive=positive) for _ in range(TRAIN_STEPS)
    ]
    return Case(step, weights, batches, number)


def _smallest_batch(step: TrainStep) -> int:
    """Rows alone are normalized over the batch: PyTorch refuses one, and two are all but ±1."""
    modules = step.model.modules()
    return 4 if any(isinstance(m, nn.BatchNorm1d) and m.training for m in modules) else 1


def named(loss: Any, outputs: Iterable[Array], gradients: Mapping[str, Array]) -> Results:
    return {
        ("loss", "loss"): np.asarray(loss),
        **{("output", f"output/{i}"): o for i, o in enumerate(outputs)},
        **{("gradient", name): g for name, g in gradients.items()},
    }


def trained(
    losses: Sequence[Any], weights: Mapping[str, Array], optimizer: Mapping[str, Array]
) -> Results:
    return {
        ("losses", "of all steps"): np.array([float(loss) for loss in losses]),
        **{("weight", name): value for name, value in weights.items()},
        **{("optimizer", name): value for name, value in optimizer.items()},
    }


def perturbed(weights: Arrays, parameters: Iterable[State], rng: np.random.Generator) -> Arrays:
    """Parameters moved by a fraction of their own spread; buffers stay, tied weights stay equal."""
    result = dict(weights)
    by_place: dict[int, Array] = {}
    for entry in parameters:
        if entry.offset not in by_place:
            w = weights[entry.name]
            amount = PERTURBATION * max(float(w.std()), SMALLEST_SPREAD)
            noise = amount * rng.normal(size=w.shape)
            by_place[entry.offset] = (w + noise).astype(np.float32)
        result[entry.name] = by_place[entry.offset]
    return result


def moved_by_rounding(array: Array, rng: np.random.Generator | None, rounding: float) -> Array:
    """Floats moved by up to one rounding of their scale, where a generator is given."""
    if rng is None or array.dtype.kind != "f":
        return array
    return moved(array, rng, rounding)


def moved(array: Array, rng: np.random.Generator, amount: float) -> Array:
    """Floats moved by up to `amount` of the largest."""
    wide: Array = array.astype(np.float64)
    step = amount * float(np.abs(wide).max(initial=0.0))
    return np.asarray(wide + step * rng.uniform(-1, 1, wide.shape))

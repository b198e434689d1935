"""What every way of running a bundle from Python can do.

A runner executes the programs of one bundle: `reference` (NumPy), `wasm` (wasmtime), `webgpu`
(wgpu), `chromium:wasm` and `chromium:webgpu` (a real browser).  It takes and returns NumPy arrays
in the dtypes of the manifest, checks them before it touches the device (`inputs.py`), and owns
its state.  It is not a training loop.

A training step whose loss is not finite raises `NumericalInstabilityError` after it was done, as in
the browser: the state is what the step made of it, so load earlier weights to go on.  Gradients are
not looked at, nor is the loss of any other program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.hyper import MICRO_BATCH, MICRO_BATCHES
from hearth.bundle.manifest import Manifest
from hearth.errors import InvalidInputError, NumericalInstabilityError

Array = NDArray[Any]
Arrays = tuple[Array, ...]
Batch = tuple[Arrays, Arrays]  # inputs, targets


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one train or evaluate step returns; `metrics` includes `norm` where a step has one.

    Over several batches a metric that is a number is averaged, weighted by samples, and one that is
    an array (counts) is summed.
    """

    loss: float
    outputs: Arrays
    metrics: Mapping[str, float | Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GradientResult:
    """Loss, outputs and the gradient of every trainable parameter, by name, before clipping."""

    loss: float
    outputs: Arrays
    gradients: dict[str, Array]


class Runner(Protocol):
    """One bundle on one device, with its state. Not thread-safe; close it when done."""

    @property
    def device(self) -> str:
        """What runs the kernels, for people: "wasmtime 50, 2 threads, relaxed SIMD"."""

    @property
    def step(self) -> int:
        """Completed training steps."""

    @property
    def seed(self) -> int:
        """The seed of all random numbers: word 0 is the low half of its 64 bits."""

    @seed.setter
    def seed(self, value: int) -> None: ...

    @property
    def learning_rate(self) -> tuple[float, ...]:
        """One learning rate per parameter group."""

    @learning_rate.setter
    def learning_rate(self, value: float | Sequence[float]) -> None: ...

    def train_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        """One training step: the state changes, also where the loss is not finite and it raises."""

    def train_many(self, batches: Iterable[Batch]) -> NDArray[np.float32]:
        """The losses of many steps; may keep the device busy without waiting for each loss.

        After a loss that is not finite, some of the steps that follow may have been done too.
        """

    def accumulate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        """Forward and backward of one micro-batch; `apply_gradients` makes a step of several.

        Raises `InvalidInputError` where the step was compiled without `accumulate=True`.
        """

    def apply_gradients(self) -> dict[str, float]:
        """The update by the mean gradient of the micro-batches since the last; gives `norm`.

        Raises `InvalidInputError` where there are none.
        """

    def evaluate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        """Loss and outputs in evaluation mode; the state stays."""

    def predict(self, inputs: Arrays) -> Arrays:
        """What the model returns in evaluation mode, in order."""

    def gradients(self, inputs: Arrays, targets: Arrays) -> GradientResult:
        """Gradients in training mode, without an update; the state stays."""

    def export_weights(self) -> dict[str, Array]:
        """Parameters and persistent buffers under their state_dict keys, in file order."""

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Replaces all parameters and persistent buffers; names, shapes and dtypes must match."""

    def export_state(self) -> dict[str, Array]:
        """The weights, the optimizer state (`KEY/PARAMETER`), and the entries of role `step`,
        `seed` and `scaler` under their names in the manifest: all that a checkpoint needs.
        """

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Replaces the entries that are given, by name, as `export_state` names them."""

    def close(self) -> None:
        """Gives the device back; the runner is of no use afterwards."""


def measured(metric: Array) -> float | Array:
    """A metric without dimensions as a number, another as it is."""
    return metric if metric.ndim else float(metric)


def require_accumulation(manifest: Manifest) -> None:
    """Raises `InvalidInputError` for a bundle whose step takes one batch."""
    if "accumulate" not in manifest.programs:
        raise InvalidInputError(
            "this bundle cannot accumulate gradients",
            why="its training step is one program, from the batch to the update",
            remedy="compile it with hearth.TrainStep(..., accumulate=True)",
        )


class MicroBatches:
    """Counts the micro-batches of a step: they are numbered from outside (spec/manifest.md)."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._count = 0

    def next(self) -> dict[str, int]:
        """What `accumulate` takes for the next one."""
        require_accumulation(self._manifest)
        return {MICRO_BATCH: self._count}

    def added(self) -> None:
        """The next one was accumulated."""
        self._count += 1

    def all(self) -> dict[str, int]:
        """What `apply` takes for all since the last update."""
        require_accumulation(self._manifest)
        if self._count == 0:
            raise InvalidInputError(
                "there are no gradients to apply", remedy="call accumulate_batch first"
            )
        return {MICRO_BATCHES: self._count}

    def reset(self) -> None:
        """The update was made, or the state is another: the next one is the first."""
        self._count = 0


def check_loss(loss: float, step: Callable[[], int]) -> None:
    """Raises `NumericalInstabilityError` for a loss that is not finite; `step` numbers its step."""
    if not math.isfinite(loss):
        raise NumericalInstabilityError(
            f"the loss of step {step()} is {loss}",
            why="training diverged: the weights are probably not finite any more",
            remedy="load earlier weights and lower the learning rate, or clip the gradient norm",
        )

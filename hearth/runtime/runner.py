"""What every way of running a bundle from Python can do.

A runner executes the programs of one bundle: `reference` (NumPy), `wasm` (wasmtime), `webgpu`
(wgpu), `chromium:wasm` and `chromium:webgpu` (a real browser).  It takes and returns NumPy arrays
in the dtypes of the manifest, checks them before it touches the device (`inputs.py`), and owns
its state.  It is not a training loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = tuple[Array, ...]
Batch = tuple[Arrays, Arrays]  # inputs, targets


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one train or evaluate step returns; `metrics` includes `norm` where a step has one."""

    loss: float
    outputs: Arrays
    metrics: Mapping[str, float] = field(default_factory=dict)


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
        """One training step: the state changes."""

    def train_many(self, batches: Iterable[Batch]) -> NDArray[np.float32]:
        """The losses of many steps; may keep the device busy without waiting for each loss."""

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
        """The weights, the optimizer state (`KEY/PARAMETER`), and the entries of role `step` and
        `seed` under their names in the manifest: all that a checkpoint needs.
        """

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Replaces the entries that are given, by name, as `export_state` names them."""

    def close(self) -> None:
        """Gives the device back; the runner is of no use afterwards."""

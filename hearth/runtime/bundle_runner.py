"""A bundle with its state on a device: the `Runner` behind `reference`, `wasm` and `webgpu`.

It turns batches into device memory and back, keeps the plan large enough for the batch size, and
converts state between the dtypes of files and of devices.  What a kernel is, only the device knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.dtypes import from_device, to_device
from hearth.bundle.hyper import LEARNING_RATE
from hearth.bundle.manifest import Input, Output, State
from hearth.bundle.read import Bundle
from hearth.bundle.weights import match_weights, weights_of
from hearth.errors import InternalError, InvalidInputError
from hearth.ir.dtype import ELEMENT_BYTES, STORED_AS
from hearth.runtime.device import Device
from hearth.runtime.inputs import check_batch
from hearth.runtime.inspection import Inspection, inspect_with
from hearth.runtime.plan import Plan, make_plan
from hearth.runtime.runner import (
    Array,
    Arrays,
    Batch,
    GradientResult,
    MicroBatches,
    StepResult,
    check_loss,
    measured,
)

_RUN_ROLES = ("optimizer", "step", "seed", "scaler")  # what a checkpoint holds beside weights


class BundleRunner:
    """Implements `Runner`; a context manager.

    `batch_size` is planned for at once; a larger batch makes a new plan, which keeps the state.
    """

    def __init__(
        self, bundle: Bundle, device: Device, *, seed: int = 0, batch_size: int = 1
    ) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        self._device = device
        optimizer = self.manifest.optimizer
        groups = optimizer.groups if optimizer else ()
        self._rates = tuple(group.learning_rate for group in groups)
        self._micro_batches = MicroBatches(self.manifest)
        self._plan = self._prepare(batch_size)
        for name, value in bundle.initial_state().items():
            self._write_state(self._state(name), value)
        if self._entries("seed"):
            self.seed = seed

    @property
    def device(self) -> str:
        return self._device.name

    @property
    def plan(self) -> Plan:
        """Where everything lies now."""
        return self._plan

    @property
    def step(self) -> int:
        return int(self._read_state(self._one("step")).reshape(-1)[0])

    @property
    def seed(self) -> int:
        low, high = (int(word) for word in self._read_state(self._one("seed")).reshape(-1))
        return low | high << 32

    @seed.setter
    def seed(self, value: int) -> None:
        entry = self._one("seed")
        words = np.array([value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF], np.uint32)
        self._write_state(entry, words.reshape(entry.shape))

    @property
    def learning_rate(self) -> tuple[float, ...]:
        return self._rates

    @learning_rate.setter
    def learning_rate(self, value: float | Sequence[float]) -> None:
        count = len(self._rates)
        rates = (value,) * count if isinstance(value, int | float) else tuple(value)
        if len(rates) != count or not all(0 <= rate < np.inf for rate in rates):
            raise InvalidInputError(
                f"learning_rate {value!r} does not fit",
                why=f"the optimizer has {count} parameter groups, each takes one number from 0 up",
            )
        self._rates = tuple(float(rate) for rate in rates)

    def train_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        result = self._step_result("train", inputs, targets)
        check_loss(result.loss, lambda: self.step)
        return result

    def train_many(self, batches: Iterable[Batch]) -> NDArray[np.float32]:
        losses = [self._train_loss(*batch) for batch in batches]
        return np.array(losses, np.float32)

    def accumulate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        result = self._step_result("accumulate", inputs, targets, self._micro_batches.next())
        self._micro_batches.added()
        check_loss(result.loss, lambda: self.step + 1)
        return result

    def apply_gradients(self) -> dict[str, float]:
        self._execute("apply", (), (), self._micro_batches.all())
        self._micro_batches.reset()
        return {name: float(value) for name, value in self._metrics("apply", 1).items()}

    def evaluate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        return self._step_result("evaluate", inputs, targets)

    def predict(self, inputs: Arrays) -> Arrays:
        batch = self._execute("predict", inputs, ())
        return self._read_role("predict", "output", batch)

    def gradients(self, inputs: Arrays, targets: Arrays) -> GradientResult:
        batch = self._execute("gradients", inputs, targets)
        program = self.manifest.program("gradients")
        found = {o.name: self._read(o, batch) for o in program.outputs if o.role == "gradient"}
        (loss,) = self._read_role("gradients", "loss", batch)
        return GradientResult(float(loss), self._read_role("gradients", "output", batch), found)

    def run(
        self,
        program: str,
        inputs: Arrays,
        targets: Arrays = (),
        outputs: Collection[str] | None = None,
    ) -> dict[str, Array]:
        """Runs any program on one batch; its outputs by name, all or those of `outputs`."""
        batch = self._execute(program, inputs, targets)
        entries = self.manifest.program(program).outputs
        wanted = [o for o in entries if outputs is None or o.name in outputs]
        return {o.name: self._read(o, batch) for o in wanted}

    def inspect(self, inputs: Arrays, targets: Arrays, values: Sequence[str] = ()) -> Inspection:
        return inspect_with(self, inputs, targets, values)

    def export_weights(self) -> dict[str, Array]:
        return {entry.name: self._read_state(entry) for entry in self.manifest.weights}

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        matched = match_weights(weights_of(self.manifest.state), weights, "weights")
        self.load_state(matched)

    def export_state(self) -> dict[str, Array]:
        kept = [s for s in self.manifest.state if s.role in _RUN_ROLES]
        return self.export_weights() | {entry.name: self._read_state(entry) for entry in kept}

    def load_state(self, state: Mapping[str, Array]) -> None:
        self._micro_batches.reset()  # gradients of another state
        for name, value in state.items():
            self._write_state(self._state(name), value)

    def close(self) -> None:
        self._device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ programs

    def _step_result(
        self, program: str, inputs: Arrays, targets: Arrays, hyper: Mapping[str, int] | None = None
    ) -> StepResult:
        batch = self._execute(program, inputs, targets, hyper)
        (loss,) = self._read_role(program, "loss", batch)
        outputs = self._read_role(program, "output", batch)
        return StepResult(float(loss), outputs, self._metrics(program, batch))

    def _metrics(self, program: str, batch: int) -> dict[str, float | Array]:
        """Metrics, and `norm` where there is one."""
        return {
            o.name: measured(self._read(o, batch))
            for o in self.manifest.program(program).outputs
            if o.role in ("metric", "norm")
        }

    def _train_loss(self, inputs: Arrays, targets: Arrays) -> float:
        """A training step of which only the loss is read back."""
        batch = self._execute("train", inputs, targets)
        (loss,) = self._read_role("train", "loss", batch)
        check_loss(float(loss), lambda: self.step)
        return float(loss)

    def _execute(
        self, name: str, inputs: Arrays, targets: Arrays, hyper: Mapping[str, int] | None = None
    ) -> int:
        """Writes the inputs and runs a program; the batch size."""
        program = self.manifest.program(name)
        finite = self.manifest.optimizer is not None
        checked = check_batch(program, inputs, targets, finite=finite)
        if checked.batch > self._plan.batch:
            self._plan = self._prepare(checked.batch)
        for buffer, array in checked.arrays.items():
            self._device.write(buffer, array)
        for entry in program.inputs:
            if entry.role == "hyper":
                self._device.write(entry.buffer, self._hyper(entry, hyper or {}))
        self._device.run(name, checked.batch)
        return checked.batch

    def _hyper(self, entry: Input, given: Mapping[str, int]) -> Array:
        if entry.name in given:
            return np.array(given[entry.name], np.int32)
        if entry.name != LEARNING_RATE:
            raise InternalError(f"nothing sets the hyper-parameter {entry.name!r}")
        return np.array(self._rates, np.float32)

    def _prepare(self, batch: int) -> Plan:
        device = self._device
        plan = make_plan(self.manifest, batch, device.stores_halves, device.page_bytes)
        self._device.prepare(plan)
        return plan

    def _read_role(self, program: str, role: str, batch: int) -> Arrays:
        outputs = self.manifest.program(program).outputs
        return tuple(self._read(o, batch) for o in outputs if o.role == role)

    def _read(self, output: Output, batch: int) -> Array:
        shape = tuple(extent.at(batch) for extent in output.shape)
        size = int(np.prod(shape, dtype=np.int64)) * ELEMENT_BYTES
        stored = STORED_AS[self.manifest.buffers[output.buffer].dtype]
        elements = np.frombuffer(self._device.read(output.buffer, size), stored)
        return from_device(elements, output.dtype).reshape(shape)

    # ------------------------------------------------------------ state

    def _entries(self, role: str) -> list[State]:
        return [entry for entry in self.manifest.state if entry.role == role]

    def _one(self, role: str) -> State:
        entries = self._entries(role)
        if not entries:
            raise InvalidInputError(f"this bundle has no {role}")
        return entries[0]

    def _state(self, name: str) -> State:
        for entry in self.manifest.state:
            if entry.name == name:
                return entry
        raise InvalidInputError(f"the bundle has no state {name!r}")

    def _write_state(self, entry: State, value: Array) -> None:
        value = np.asarray(value)
        if value.shape != entry.shape or value.dtype != self._file_dtype(entry):
            raise InvalidInputError(
                f"state {entry.name!r} is {value.dtype} {list(value.shape)}",
                why=f"the bundle needs {entry.dtype} {list(entry.shape)}",
            )
        self._device.write_state(entry.offset, to_device(value, entry.name).tobytes())

    def _read_state(self, entry: State) -> Array:
        count = int(np.prod(entry.shape, dtype=np.int64))
        data = self._device.read_state(entry.offset, count * ELEMENT_BYTES)
        stored = to_device(np.zeros(0, self._file_dtype(entry)), entry.name).dtype
        elements = np.frombuffer(data, stored).reshape(entry.shape)
        return from_device(elements, entry.dtype).copy()

    def _file_dtype(self, entry: State) -> np.dtype[Any]:
        return np.dtype(np.bool_ if entry.dtype == "bool" else entry.dtype)

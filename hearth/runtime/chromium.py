"""Runs a bundle in a real, headless Chromium: the runtime, worker and device that users have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.checkpoint import (
    checkpoint_of,
    decode_checkpoint,
    encode_checkpoint,
    state_of,
)
from hearth.bundle.dtypes import NUMPY_DTYPES
from hearth.bundle.read import read_bundle
from hearth.bundle.weights import decode_weights, encode_weights, weights_of
from hearth.bundle.write import RUNTIME_FILE
from hearth.errors import BackendError
from hearth.runtime.browser import has_gpu, launch_flags
from hearth.runtime.inputs import file_arrays
from hearth.runtime.inspection import Inspection, inspect_with
from hearth.runtime.page import BundlePage
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

_BATCHES_PER_CALL: Final = 64


class ChromiumTrainer:
    """A `Runner` in a browser, and the browser's own file formats for those who want them.

    `backend` is "wasm" or "webgpu"; a browser that falls back to another one is a `BackendError`,
    unless `allow_fallback`.
    `threads` is for wasm; `software_gpu` decides about SwiftShader (by default: where there is no
    GPU).  A context manager.
    """

    def __init__(
        self,
        bundle: str | Path,
        backend: str = "wasm",
        *,
        threads: int | None = None,
        seed: int = 0,
        batch_size: int = 1,
        software_gpu: bool | None = None,
        allow_fallback: bool = False,
    ) -> None:
        opened = read_bundle(bundle)
        opened.file(RUNTIME_FILE)  # a page without it would only time out
        self.manifest = opened.manifest
        self._weights = weights_of(self.manifest.state)
        self._micro_batches = MicroBatches(self.manifest)
        self._seed = seed
        software = not has_gpu() if software_gpu is None else software_gpu
        self._page = BundlePage(opened, launch_flags(backend, software_gpu=software))
        options = {"backend": backend, "seed": str(seed), "batchSize": batch_size}
        if threads is not None:
            options["threads"] = threads
        try:
            loaded = self._page.call("load", options=options).value
            self.warnings: tuple[str, ...] = tuple(loaded["warnings"])
            self._info = loaded["device"]
            if self._info["backend"] != backend and not allow_fallback:
                raise BackendError(
                    f"Chromium runs this bundle on {self._info['backend']}, not on {backend}",
                    why="; ".join(self.warnings),
                )
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> str:
        info = self._info
        threads = f", {info['threads']} threads" if info["threads"] > 1 else ""
        return f"{self._page.browser_name}, {info['backend']}, {info['adapter']}{threads}"

    @property
    def step(self) -> int:
        return decode_checkpoint(self.export_checkpoint()).step

    @property
    def seed(self) -> int:
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        checkpoint = decode_checkpoint(self.export_checkpoint())
        self.load_checkpoint(encode_checkpoint(replace(checkpoint, seed=value)))

    @property
    def learning_rate(self) -> tuple[float, ...]:
        return tuple(self._page.call("getLearningRate").value)

    @learning_rate.setter
    def learning_rate(self, value: float | Sequence[float]) -> None:
        rates = float(value) if isinstance(value, int | float) else [float(v) for v in value]
        self._page.call("setLearningRate", rates=rates)

    def train_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        result = self._step("train", inputs, targets)
        check_loss(result.loss, lambda: self.step)
        return result

    def train_many(self, batches: Iterable[Batch]) -> NDArray[np.float32]:
        losses: list[float] = []
        source = iter(batches)
        while chunk := list(islice(source, _BATCHES_PER_CALL)):
            arrays: dict[str, Array] = {}
            for index, batch in enumerate(chunk):
                _, given = file_arrays(self.manifest.program("train"), *batch)
                arrays |= {f"{index}/{entry.role}/{entry.name}": a for entry, a in given}
            losses += self._page.call("trainMany", arrays, count=len(chunk)).value
        return np.array(losses, np.float32)

    def accumulate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        result = self._step("accumulate", inputs, targets, self._micro_batches.next())
        self._micro_batches.added()
        check_loss(result.loss, lambda: self.step + 1)
        return result

    def apply_gradients(self) -> dict[str, float]:
        found = self.run("apply", (), hyper=self._micro_batches.all())
        self._micro_batches.reset()
        return {name: float(value) for name, value in found.items()}

    def step_times_ms(self, inputs: Arrays, targets: Arrays, seconds: float) -> list[float]:
        """The page's time of each step on one batch, awaited one by one for `seconds`."""
        _, given = file_arrays(self.manifest.program("train"), inputs, targets)
        arrays = {f"{entry.role}/{entry.name}": array for entry, array in given}
        times: list[float] = self._page.call("stepTimes", arrays, seconds=seconds).value
        return times

    def evaluate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        return self._step("evaluate", inputs, targets)

    def predict(self, inputs: Arrays) -> Arrays:
        return self._outputs("predict", self.run("predict", inputs))

    def gradients(self, inputs: Arrays, targets: Arrays) -> GradientResult:
        found = self.run("gradients", inputs, targets)
        program = self.manifest.program("gradients")
        names = [o.name for o in program.outputs if o.role == "gradient"]
        loss = self._loss("gradients", found)
        gradients = {name: found[name] for name in names}
        return GradientResult(loss, self._outputs("gradients", found), gradients)

    def run(
        self,
        program: str,
        inputs: Arrays,
        targets: Arrays = (),
        outputs: Collection[str] | None = None,
        *,
        hyper: Mapping[str, int] | None = None,
    ) -> dict[str, Array]:
        """Runs any program on one batch; its outputs by name, all or those of `outputs`.

        `hyper` are whole numbers of the run, not of a sample.
        """
        entry = self.manifest.program(program)
        finite = self.manifest.optimizer is not None
        batch, given = file_arrays(entry, inputs, targets, finite=finite)
        arrays = {argument.name: array for argument, array in given}
        arrays |= {name: np.array([number], np.int32) for name, number in (hyper or {}).items()}
        found = self._page.call("run", arrays, program=program).arrays
        return {
            o.name: found[o.name]
            .astype(NUMPY_DTYPES[o.dtype])
            .reshape([extent.at(batch) for extent in o.shape])
            for o in entry.outputs
            if outputs is None or o.name in outputs
        }

    def inspect(self, inputs: Arrays, targets: Arrays, values: Sequence[str] = ()) -> Inspection:
        return inspect_with(self, inputs, targets, values)

    def export_weights(self) -> dict[str, Array]:
        return decode_weights(self._weights, self.export_weights_file())

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        self.load_weights_file(encode_weights(self._weights, weights))

    def export_weights_file(self, file_format: str = "safetensors") -> bytes:
        """The file that the browser offers for download: "safetensors" or "json"."""
        return self._page.call("exportWeights", format=file_format).arrays["file"].tobytes()

    def load_weights_file(self, data: bytes) -> None:
        """Loads a weight file of either form in the browser."""
        self._page.call("loadWeights", {"file": np.frombuffer(data, np.uint8)})

    def export_checkpoint(self) -> bytes:
        """The whole run as the browser writes it."""
        return self._page.call("exportCheckpoint").arrays["file"].tobytes()

    def load_checkpoint(self, data: bytes) -> None:
        """Continues the run of a checkpoint file in the browser."""
        self._micro_batches.reset()  # gradients of another state
        self._page.call("loadCheckpoint", {"file": np.frombuffer(data, np.uint8)})
        self._seed = decode_checkpoint(data).seed

    def export_state(self) -> dict[str, Array]:
        return state_of(self.manifest, decode_checkpoint(self.export_checkpoint()))

    def load_state(self, state: Mapping[str, Array]) -> None:
        everything = {**self.export_state(), **state}
        checkpoint = checkpoint_of(self.manifest, everything, self.learning_rate)
        self.load_checkpoint(encode_checkpoint(checkpoint))

    def close(self) -> None:
        self._page.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _step(
        self, name: str, inputs: Arrays, targets: Arrays, hyper: Mapping[str, int] | None = None
    ) -> StepResult:
        found = self.run(name, inputs, targets, hyper=hyper)
        entries = self.manifest.program(name).outputs
        metrics = {o.name: measured(found[o.name]) for o in entries if o.role in ("metric", "norm")}
        return StepResult(self._loss(name, found), self._outputs(name, found), metrics)

    def _loss(self, program: str, found: Mapping[str, Array]) -> float:
        entries = self.manifest.program(program).outputs
        (loss,) = (float(found[o.name]) for o in entries if o.role == "loss")
        return loss

    def _outputs(self, program: str, found: Mapping[str, Array]) -> Arrays:
        return tuple(
            found[o.name] for o in self.manifest.program(program).outputs if o.role == "output"
        )

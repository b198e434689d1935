"""What `hearth export` does: trained weights in another form, with the accuracy before and after.

The form follows from the file's name: `.safetensors` for PyTorch and the browser, `.onnx` for ONNX
Runtime and everything that reads ONNX.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hearth.bundle.manifest import Program
from hearth.bundle.quantized import Precision
from hearth.bundle.read import read_bundle
from hearth.data import Dataset, Split, batches, fit_to_program, load_dataset
from hearth.deploy.onnx_file import OnnxPrecision, export_onnx, open_onnx
from hearth.driver.compiled import step_of
from hearth.errors import InvalidInputError
from hearth.runtime.runner import Batch
from hearth.steps.train_step import TrainStep
from hearth.training import EVALUATION_BATCH, accuracy
from hearth.weights_io import load_weights, save_weights

Array = NDArray[Any]
_PRECISIONS: Final[dict[str, tuple[str, ...]]] = {
    ".safetensors": get_args(Precision),
    ".onnx": get_args(OnnxPrecision),
}


@dataclass(frozen=True)
class Score:
    """Over a whole test set; `accuracy` is None where the targets are not classes."""

    loss: float
    accuracy: float | None

    def __str__(self) -> str:
        share = "" if self.accuracy is None else f"{100 * self.accuracy:.2f} %, "
        return f"{share}loss {self.loss:.4f}"


@dataclass(frozen=True)
class ExportReport:
    """Sizes in bytes; `largest_difference` is of any output, on `samples` test samples."""

    path: Path
    precision: str
    bytes_before: int
    bytes_after: int
    before: Score
    after: Score
    samples: int
    largest_difference: float

    def __str__(self) -> str:
        share = self.bytes_after / self.bytes_before
        return (
            f"{self.path}: {self.precision}, {self.bytes_after:,} bytes ({share:.2f} of "
            f"{self.bytes_before:,})\nbefore: {self.before}\nafter:  {self.after}\n"
            f"largest difference of an output on {self.samples:,} test samples: "
            f"{self.largest_difference:.1e}"
        )


def export_trained(
    bundle: str | Path,
    weights: str | Path,
    output: str | Path,
    *,
    precision: OnnxPrecision = "float32",
    data: str | Path | Dataset | None = None,
    step: TrainStep | None = None,
) -> ExportReport:
    """Writes trained weights in another form, and evaluates the test set before and after.

    Args:
        bundle: that the weights were trained with.
        weights: a weight file of the model.
        output: ends in `.safetensors` or `.onnx`.
        precision: "float32", "float16", "int8", and for ONNX "int8-dynamic".
        data: as `hearth train` takes it; its test set is judged.
        step: the training step, where the bundle was compiled from a model that cannot be pickled.
    """
    path = Path(output)
    _check_form(path, precision)
    program = read_bundle(bundle).manifest.program("evaluate")
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    test = fit_to_program(dataset, program).test
    step = step or step_of(bundle)
    model = copy.deepcopy(step.model).eval()
    model.load_state_dict(load_weights(weights, like=model.state_dict()))
    before = _predict(model, test)
    if path.suffix == ".onnx":
        export_onnx(model, torch.from_numpy(test.inputs[:2]), path, precision=precision)
        run = open_onnx(path)
        after = np.concatenate([run(inputs)[0] for inputs, _ in _parts(test)])
    else:
        assert precision != "int8-dynamic"  # checked above: it is a form of ONNX alone
        save_weights(model.state_dict(), path, precision=precision)
        model.load_state_dict(load_weights(path, like=model.state_dict()))
        after = _predict(model, test)
    return ExportReport(
        path,
        precision,
        Path(weights).stat().st_size,
        path.stat().st_size,
        _score(step, before, test, program),
        _score(step, after, test, program),
        len(test),
        float(np.abs(after - before).max()),
    )


def _check_form(path: Path, precision: OnnxPrecision) -> None:
    known = _PRECISIONS.get(path.suffix)
    if known is None:
        raise InvalidInputError(
            f"{path} names no form of weights", remedy=f"end it in {' or '.join(_PRECISIONS)}"
        )
    if precision not in known:
        raise InvalidInputError(
            f"{path.suffix} files cannot hold {precision!r}", remedy=f"choose {', '.join(known)}"
        )


def _predict(model: torch.nn.Module, split: Split) -> Array:
    with torch.no_grad():
        parts = [model(*map(torch.from_numpy, inputs)).numpy() for inputs, _ in _parts(split)]
    return np.concatenate(parts)


def _parts(split: Split) -> Iterator[Batch]:
    return batches(split, EVALUATION_BATCH)


def _score(step: TrainStep, outputs: Array, split: Split, program: Program) -> Score:
    with torch.no_grad():
        loss = step.loss(torch.from_numpy(outputs), torch.from_numpy(split.targets))
    return Score(float(loss), accuracy(outputs, split.targets, program))

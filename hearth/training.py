"""The training loop behind `hearth train`: any runner, any prepared data set, with progress.

The loop feeds batches and counts; the mathematics is in the bundle.  People who want schedules,
callbacks or early stopping write their own loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from hearth.bundle.checkpoint import (
    checkpoint_of,
    decode_checkpoint,
    encode_checkpoint,
    state_of,
)
from hearth.bundle.files import read_file, write_file
from hearth.bundle.manifest import Manifest, Program
from hearth.bundle.read import read_bundle
from hearth.bundle.weights import encode_json_weights, encode_weights, weights_of
from hearth.data import Dataset, Split, batches, fit_to_program, load_dataset
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError
from hearth.progress import training_bar
from hearth.runtime.runner import Array, Batch, Runner, require_accumulation

EVALUATION_BATCH: Final = 256
_REPORT_INTERVAL_S: Final = 0.25  # often enough for a bar, rarely enough to keep a device busy
_LONGEST_CHUNK: Final = 64  # batches that are handed over at once


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `loss` is the mean over the steps since the last report."""

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`accuracy` is None where the targets are not classes; `outputs` is what was predicted."""

    loss: float
    accuracy: float | None
    outputs: Array

    def __str__(self) -> str:
        share = "" if self.accuracy is None else f", accuracy {100 * self.accuracy:.2f} %"
        return f"loss {self.loss:.4f}{share}"


def train_bundle(
    bundle: str | Path,
    *,
    data: str | Path | Dataset | None = None,
    runner: str = "chromium:wasm",
    epochs: int = 5,
    batch_size: int = 64,
    accumulate: int = 1,
    learning_rate: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    resume: str | Path | None = None,
    output: str | Path = "trained.safetensors",
    checkpoint: str | Path | None = None,
) -> Evaluation:
    """Trains a bundle on a data set, writes the weights, and returns the test set's evaluation.

    The data are checked against the manifest before anything starts.  `output` ending in `.json`
    takes the JSON form; `checkpoint` also writes the whole run, `resume` continues one.  A step
    takes `accumulate` batches, the last of an epoch perhaps fewer.
    """
    opened_bundle = read_bundle(bundle)
    program = _trained_program(opened_bundle.manifest)
    if accumulate > 1:
        require_accumulation(opened_bundle.manifest)
    dataset = fit_to_program(data if isinstance(data, Dataset) else load_dataset(data), program)
    options = {"seed": seed} if threads is None else {"seed": seed, "threads": threads}
    with closing(open_runner(bundle, runner, **options)) as opened:
        console = Console(stderr=True)
        console.print(f"{opened.device}\n{dataset.name}: {len(dataset.train)} to train on")
        if resume is not None:
            _resume(opened, opened_bundle.manifest, resume)
        if learning_rate is not None:
            opened.learning_rate = learning_rate
        with training_bar(_steps(dataset.train, epochs, batch_size * accumulate)) as bar:
            train(
                opened, dataset.train, epochs=epochs, batch_size=batch_size, seed=seed,
                accumulate=accumulate,
                report=lambda p: bar(f"epoch {p.epoch + 1}/{epochs}", p.step, p.loss),
            )  # fmt: skip
        result = evaluate(opened, dataset.test, program)
        console.print(f"test set: {result}")
        _save(opened_bundle.manifest, opened, output, checkpoint)
        console.print(f"weights: {output}")
    return result


def train(
    runner: Runner,
    split: Split,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    accumulate: int = 1,
    report: Callable[[Progress], None] | None = None,
) -> list[float]:
    """Trains for whole epochs and returns the loss of every step: the mean of its batches'.

    The runner raises `NumericalInstabilityError` where a loss is not finite, naming the step.
    """
    random = np.random.default_rng(seed)
    steps = _steps(split, epochs, batch_size * accumulate)
    losses: list[float] = []
    for epoch in range(epochs):
        for chunk in _chunks(runner, batches(split, batch_size, random), accumulate):
            losses += chunk
            if report is not None:
                report(Progress(epoch, len(losses), steps, float(np.mean(chunk))))
    return losses


def evaluate(runner: Runner, split: Split, program: Program) -> Evaluation:
    """Mean loss, accuracy and outputs over a split, in evaluation mode.

    The loss is averaged over samples, as a mean-reduced loss over the whole split would be.
    """
    total, outputs = 0.0, []
    for inputs, targets in batches(split, EVALUATION_BATCH):
        result = runner.evaluate_batch(inputs, targets)
        total += result.loss * len(inputs[0])
        outputs.append(result.outputs[0])
    predicted = np.concatenate(outputs)
    return Evaluation(total / len(split), accuracy(predicted, split.targets, program), predicted)


def accuracy(outputs: Array, targets: Array, program: Program) -> float | None:
    """The share of samples whose largest output is their class; None without classes."""
    target = next(i for i in program.inputs if i.role == "target")
    if target.range is None or outputs.ndim != 2 or targets.ndim != 1:
        return None
    counted = targets != target.except_ if target.except_ is not None else np.full(len(targets), 1)
    right = (outputs.argmax(axis=1) == targets) & counted.astype(bool)
    return float(right.sum() / max(1, counted.sum()))


def _trained_program(manifest: Manifest) -> Program:
    if "train" not in manifest.programs or "evaluate" not in manifest.programs:
        raise InvalidInputError(
            f"{manifest.model} cannot be trained: it has {', '.join(manifest.programs)}",
            why="a bundle made with compile_function has no training step",
        )
    return manifest.programs["train"]


def _resume(runner: Runner, manifest: Manifest, checkpoint: str | Path) -> None:
    run = decode_checkpoint(read_file(checkpoint), str(checkpoint))
    runner.load_state(state_of(manifest, run))
    runner.learning_rate = [group.learning_rate for group in run.description.groups]


def _save(
    manifest: Manifest, runner: Runner, output: str | Path, checkpoint: str | Path | None
) -> None:
    weights, arrays = weights_of(manifest.state), runner.export_weights()
    if Path(output).suffix == ".json":
        write_file(output, encode_json_weights(weights, arrays, manifest.model).encode())
    else:
        write_file(output, encode_weights(weights, arrays))
    if checkpoint is not None:
        run = checkpoint_of(manifest, runner.export_state(), runner.learning_rate)
        write_file(checkpoint, encode_checkpoint(run))


def _steps(split: Split, epochs: int, samples: int) -> int:
    """Of a run whose steps take so many samples, the last of an epoch perhaps fewer."""
    return epochs * -(-len(split) // samples)


def _chunks(runner: Runner, source: Iterator[Batch], accumulate: int) -> Iterator[list[float]]:
    """Takes a few steps at a time, as many as take about one report interval."""
    size = 1
    steps = iter(lambda: list(islice(source, accumulate)), [])
    while chunk := list(islice(steps, size)):
        started = time.perf_counter()
        yield _losses(runner, chunk)
        per_step = (time.perf_counter() - started) / len(chunk)
        size = min(_LONGEST_CHUNK, max(1, int(_REPORT_INTERVAL_S / max(per_step, 1e-6))))


def _losses(runner: Runner, steps: Sequence[Sequence[Batch]]) -> list[float]:
    """Takes steps; a bundle may not have the parts of one that has a single batch."""
    if all(len(parts) == 1 for parts in steps):
        return [float(loss) for loss in runner.train_many(parts[0] for parts in steps)]
    losses = []
    for parts in steps:
        losses.append(float(np.mean([runner.accumulate_batch(*part).loss for part in parts])))
        runner.apply_gradients()
    return losses

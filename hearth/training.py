"""The training loop of the command line: any runner, any prepared data set, with progress.

The loop feeds batches and counts; the mathematics is in the bundle.  People who want schedules,
callbacks or early stopping have them in the browser (`Trainer.fit`) or write their own loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from hearth.bundle.manifest import Program
from hearth.data import Split, batches
from hearth.errors import NumericalInstabilityError
from hearth.runtime.runner import Array, Batch, Runner

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


def train(
    runner: Runner,
    split: Split,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
) -> list[float]:
    """Trains for whole epochs and returns the loss of every step.

    Raises `NumericalInstabilityError` when a loss is not finite, naming the step.
    """
    random = np.random.default_rng(seed)
    steps = epochs * -(-len(split) // batch_size)
    losses: list[float] = []
    for epoch in range(epochs):
        for chunk in _chunks(runner, batches(split, batch_size, random)):
            losses += chunk
            _check_finite(losses, len(chunk), runner)
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


def _chunks(runner: Runner, source: Iterator[Batch]) -> Iterator[list[float]]:
    """Trains on a few batches at a time, as many as take about one report interval."""
    size = 1
    while chunk := list(islice(source, size)):
        started = time.perf_counter()
        yield [float(loss) for loss in runner.train_many(chunk)]
        per_step = (time.perf_counter() - started) / len(chunk)
        size = min(_LONGEST_CHUNK, max(1, int(_REPORT_INTERVAL_S / max(per_step, 1e-6))))


def _check_finite(losses: list[float], fresh: int, runner: Runner) -> None:
    for index in range(len(losses) - fresh, len(losses)):
        if not np.isfinite(losses[index]):
            raise NumericalInstabilityError(
                f"the loss is {losses[index]} at step {index + 1}",
                why=f"the learning rate {runner.learning_rate} may be too large for this model",
                remedy="train with a smaller --lr, or compile with clip_grad_norm",
            )

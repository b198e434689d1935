"""One architecture compiled once and trained on every backend, next to PyTorch.

Steps from the model's own initial weights, with batch sizes that it was not compiled with.
PyTorch computes them once, in float64 and in float32, for all backends that take as many.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import hearth
from hearth.bundle.read import read_bundle
from hearth.driver.cases import Case
from hearth.driver.compiled import Compiled
from hearth.driver.report import Deviation, VerifyReport
from hearth.driver.runners import open_runner
from hearth.driver.samples import random_batch
from hearth.driver.verify import Verifier, slack_of
from tests.architectures.classification import BATCH, Example

RUNNERS = ("wasm", "webgpu", "chromium:wasm", "chromium:webgpu")
STEPS = 20
EVERYWHERE = dict.fromkeys(RUNNERS, STEPS)
BATCHES = (2, 5)  # in turn
assert BATCH not in BATCHES
NOISE = 0.1  # of its largest element: a tensor that float32 does not determine


@dataclass(frozen=True)
class Trained:
    """What one backend made of the run, tensor by tensor."""

    report: VerifyReport
    deviations: tuple[Deviation, ...]

    @property
    def error(self) -> float:
        """The largest deviation from float64, of losses and final weights."""
        return max(d.error for d in self._of_training())

    @property
    def float32_error(self) -> float:
        """The largest deviation of PyTorch float32 from float64."""
        return max(d.float32_error for d in self._of_training())

    def _of_training(self) -> list[Deviation]:
        """Without tensors that are zero but for rounding, such as means of what has none."""
        after = [d for d in self.deviations if d.kind in ("losses", "weight")]
        return [d for d in after if d.float32_error < NOISE]


@dataclass(frozen=True)
class Training:
    """An architecture on its way through the compiler and every backend."""

    bundle: Compiled
    compile_s: float  # CPU time
    runs: dict[str, Trained]


def compiled(example: Example) -> tuple[Compiled, float]:
    start = time.process_time()
    bundle = hearth.compile(*example)
    return bundle, time.process_time() - start


def train(example: Example, steps: Mapping[str, int] = EVERYWHERE) -> Training:
    """Compile, and take so many steps on each runner."""
    bundle, compile_s = compiled(example)
    step, *_ = example
    with saved(bundle) as folder:
        cases = {count: case(step, folder, count) for count in set(steps.values())}
        runs = {name: run(folder, name, cases[count]) for name, count in steps.items()}
    return Training(bundle, compile_s, runs)


def case(step: hearth.TrainStep, folder: Path, steps: int) -> Case:
    """The same batches for every number of steps, as far as they go."""
    files, rng = read_bundle(folder), np.random.default_rng(0)
    inputs = files.manifest.programs["train"].inputs
    batches = [random_batch(inputs, BATCHES[i % len(BATCHES)], rng) for i in range(steps)]
    return Case(step, files.weights(), batches, number=0)


def run(folder: Path, name: str, case: Case) -> Trained:
    runner = open_runner(folder, name)
    try:
        report = VerifyReport(name, runner.device, cases=1)
        verifier = Verifier(runner, report, slack_of(read_bundle(folder).manifest, name))
        return Trained(verifier.report, tuple(verifier.check(case)))
    finally:
        runner.close()


@contextmanager
def saved(bundle: Compiled) -> Iterator[Path]:
    with TemporaryDirectory(prefix="hearth-architecture-") as folder:
        bundle.save(folder)
        yield Path(folder)


def seeded(name: str) -> Example:
    """An architecture with the weights that it always has."""
    from tests.architectures.models import ARCHITECTURES

    torch.manual_seed(0)
    return ARCHITECTURES[name]()

"""Two hundred steps on real MNIST batches: the loss curve and the weights are PyTorch's.

The judge is PyTorch in float64.  Training amplifies rounding wherever an activation crosses its
kink, in PyTorch's float32 as in ours: the learning rate is small, and the weights are judged as one
vector, so that a single crossing does not decide.

On a GPU in software the larger model takes thirty steps: a wrong kernel shows in the first one, and
that errors do not add up over two hundred is what the two small ones show there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from examples.models import LeNet5, MnistCNN, MnistMLP
from hearth.data import load_dataset
from hearth.driver.oracle import Oracle

pytestmark = pytest.mark.slow

STEPS, FEWER, BATCH, SEED = 200, 30, 8, 7
RELATIVE = 1e-3
RUNNERS = [
    pytest.param("wasm", marks=pytest.mark.wasm),
    pytest.param("webgpu", marks=pytest.mark.webgpu),
    pytest.param("chromium:wasm", marks=pytest.mark.chromium),
    pytest.param("chromium:webgpu", marks=pytest.mark.chromium),
]


class Run:
    """One example, compiled, and PyTorch's own two hundred steps of it."""

    def __init__(self, kind: type[nn.Module], data_dir: Path, folder: Path) -> None:
        torch.manual_seed(0)
        self.kind, model = kind, kind()
        optimizer = torch.optim.SGD(model.parameters(), 0.002, momentum=0.5)
        self.step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
        self.folder = folder
        hearth.compile(self.step, torch.zeros(2, 1, 28, 28), torch.zeros(2).long()).save(folder)
        train = load_dataset(data_dir / "mnist").train
        images = train.inputs.reshape(-1, 1, 28, 28).astype(np.float32)
        rows = np.random.default_rng(SEED).permutation(len(images))[: STEPS * BATCH]
        self.batches = [
            ((images[r],), (train.targets[r].astype(np.int64),)) for r in rows.reshape(STEPS, BATCH)
        ]
        oracle = Oracle(self.step, torch.float64)
        losses: list[float] = []
        self.weights: dict[int, Any] = {}  # after so many steps
        for x, y in self.batches:
            losses.append(oracle.train(x, y, SEED).loss)
            if len(losses) in (FEWER, STEPS):
                self.weights[len(losses)] = parameters(self.step, oracle.weights)
        self.losses = np.array(losses)


@pytest.fixture(scope="module", params=[MnistMLP, LeNet5, MnistCNN], ids=lambda kind: kind.__name__)
def run(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    folder = tmp_path_factory.mktemp("bundles") / request.param.__name__
    return Run(request.param, data_dir, folder)


@pytest.mark.parametrize("runner", RUNNERS)
def test_losses_and_weights_are_pytorchs(run: Run, runner: str) -> None:
    steps = FEWER if run.kind is MnistCNN and runner.endswith("webgpu") else STEPS
    trainer = hearth.open_runner(run.folder, runner, seed=SEED)
    try:
        losses = trainer.train_many(run.batches[:steps])
        weights = parameters(run.step, trainer.export_weights())
    finally:
        trainer.close()
    expected, exact = run.losses[:steps], run.weights[steps]
    assert float(np.abs(losses - expected).max() / expected.max()) < RELATIVE
    assert np.linalg.norm(weights - exact) / np.linalg.norm(exact) < RELATIVE


def parameters(step: hearth.TrainStep, weights: dict[str, Any]) -> Any:
    """All parameters as one vector."""
    return np.concatenate([np.asarray(weights[n], np.float64).ravel() for n in step.parameters])

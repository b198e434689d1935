"""Two hundred steps on real MNIST batches: the loss curve and the weights are PyTorch's.

The judge is PyTorch in float64.  Training amplifies rounding, mostly where an activation crosses its
kink: PyTorch float32, and PyTorch float64 from weights moved by one float32 rounding, end up to a
few 1e-3 away from it.  We may be 1e-3 away, or up to four times as far as those two.
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
from hearth.driver.cases import moved_by_rounding
from hearth.driver.oracle import Oracle

pytestmark = pytest.mark.slow

STEPS, BATCH, SEED = 200, 8, 7
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
        model = kind()
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.5)
        self.step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
        self.folder = folder
        hearth.compile(self.step, torch.zeros(2, 1, 28, 28), torch.zeros(2).long()).save(folder)
        train = load_dataset(data_dir / "mnist").train
        images = train.inputs.reshape(-1, 1, 28, 28).astype(np.float32)
        rows = np.random.default_rng(SEED).permutation(len(images))[: STEPS * BATCH]
        self.batches = [
            ((images[r],), (train.targets[r].astype(np.int64),)) for r in rows.reshape(STEPS, BATCH)
        ]
        self.exact = self.results(torch.float64)
        self.others = [self.results(torch.float32), self.results(torch.float64, moved=True)]

    def results(self, dtype: torch.dtype, moved: bool = False) -> dict[str, Any]:
        """Every weight after the last step, and the loss curve under the name `losses`."""
        oracle = Oracle(self.step, dtype)
        if moved:
            rng = np.random.default_rng(0)
            oracle.load_weights({k: moved_by_rounding(v, rng) for k, v in oracle.weights.items()})
        losses = np.array([oracle.train(x, y, SEED).loss for x, y in self.batches])
        return {"losses": losses, **oracle.weights}


@pytest.fixture(scope="module", params=[MnistMLP, LeNet5, MnistCNN], ids=lambda kind: kind.__name__)
def run(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    folder = tmp_path_factory.mktemp("bundles") / request.param.__name__
    return Run(request.param, data_dir, folder)


@pytest.mark.parametrize("runner", RUNNERS)
def test_losses_and_weights_after_200_steps_are_pytorchs(run: Run, runner: str) -> None:
    trainer = hearth.open_runner(run.folder, runner, seed=SEED)
    try:
        ours = {"losses": trainer.train_many(run.batches), **trainer.export_weights()}
    finally:
        trainer.close()
    assert ours.keys() == run.exact.keys()
    for name, expected in run.exact.items():
        usual = max(distance(other[name], expected) for other in run.others)
        allowed = max(RELATIVE, 4 * usual)
        assert distance(ours[name], expected) <= allowed, name


def distance(ours: Any, expected: Any) -> float:
    """Relative to the size of the whole tensor."""
    ours, expected = (np.asarray(a, np.float64).ravel() for a in (ours, expected))
    return float(np.linalg.norm(ours - expected) / max(np.linalg.norm(expected), 1e-12))

"""A page hears what training steps measure; a driven browser takes steps in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from torch import nn

import hearth
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError
from hearth.runtime.bundle_runner import BundleRunner
from hearth.runtime.chromium import ChromiumTrainer
from tests.browser.pages import attempt
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

SAMPLES, BATCH = 44, 8
RANDOM = np.random.default_rng(4)
X = RANDOM.normal(size=(SAMPLES, 5)).astype(np.float32)
Y = RANDOM.integers(0, 3, SAMPLES)
BATCHES = [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, SAMPLES, BATCH)]
FIT = """
const { x, y } = given;
const data = new hearth.ArrayDataset({
  x: Float32Array.from(x), y: Int32Array.from(y), samples: y.length });
const loader = new hearth.DataLoader(data, { batchSize: 8 });
const trainer = await Trainer.load("/model/", { backend: "wasm", threads: 1 });
const steps = [], epochs = [];
for await (const event of trainer.fit(loader)) {
  if (event.kind === "steps") steps.push(...event.steps);
  if (event.kind === "epoch") epochs.push(event);
}
await trainer.dispose();
return { steps, epochs };
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    step = hearth.TrainStep(
        model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.3),
        training_metrics=True, gradient_norm=True, accumulate=True,
    )  # fmt: skip
    examples = torch.zeros(2, 5), torch.zeros(2, dtype=torch.long)
    path = tmp_path_factory.mktemp("measured") / "model"
    hearth.compile(step, *examples, backends=["wasm"]).save(path)
    return path


@pytest.fixture
def runner(folder: Path) -> BundleRunner:
    opened = open_runner(folder, "wasm")
    assert isinstance(opened, BundleRunner)
    return opened


def test_events_have_what_each_step_measures_and_epochs_the_means(
    bare_page: Page, served: Site, folder: Path, runner: BundleRunner
) -> None:
    served.add_folder("/model/", folder)
    found = attempt(bare_page, FIT, {"x": X.ravel().tolist(), "y": Y.tolist()})
    results = [runner.train_batch((x,), (y,)) for x, y in BATCHES]
    assert len(found["steps"]) == len(results)
    for step, result in zip(found["steps"], results, strict=True):
        assert step["metrics"] == {"accuracy": pytest.approx(result.metrics["accuracy"], abs=1e-6)}
        assert step["gradientNorm"] == pytest.approx(result.metrics["norm"], rel=1e-4)
    (epoch,) = found["epochs"]
    accuracies = [result.metrics["accuracy"] for result in results]
    assert 0 < float(np.mean(accuracies)) < 1
    assert epoch["metrics"] == {"accuracy": pytest.approx(np.mean(accuracies), abs=1e-6)}


def test_a_driven_browser_takes_a_step_in_parts(folder: Path, runner: BundleRunner) -> None:
    with ChromiumTrainer(folder, "wasm", threads=1) as browser:
        with pytest.raises(InvalidInputError, match="no gradients to apply"):
            browser.apply_gradients()
        for parts in (BATCHES[:3], BATCHES[3:5]):
            for x, y in parts:
                found = browser.accumulate_batch((x,), (y,))
                assert found.loss == pytest.approx(runner.accumulate_batch((x,), (y,)).loss, 1e-5)
            norm = browser.apply_gradients()
            assert norm == {"norm": pytest.approx(runner.apply_gradients()["norm"], 1e-4)}
        assert browser.step == runner.step == 2
        weights = browser.export_weights()
    for name, value in runner.export_weights().items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-5, atol=1e-6, err_msg=name)

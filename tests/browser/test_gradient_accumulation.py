"""`trainer.fit(loader, { accumulate })` in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from torch import nn

import hearth
from hearth.driver.runners import open_runner
from hearth.runtime.bundle_runner import BundleRunner
from tests.browser.pages import attempt, failure
from tests.browser.site_server import Reply, Site
from tests.browser.test_lost_devices import WORKER

pytestmark = pytest.mark.chromium

SAMPLES, BATCH, PARTS, EPOCHS, SEED = 100, 10, 3, 3, 11
RATES = [0.02 / (1 + step) for step in range(12)]
RANDOM = np.random.default_rng(8)
X = RANDOM.normal(size=(SAMPLES, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, SAMPLES)
GIVEN = {"x": X.ravel().tolist(), "y": Y.tolist()}

PAGE = """
const { x, y, backend } = given;
const data = new hearth.ArrayDataset({
  x: Float32Array.from(x), y: Int32Array.from(y), samples: 100 });
const loader = new hearth.DataLoader(data, { batchSize: 10 });
const load = () => Trainer.load("/model/", { backend, threads: 1, seed: 11 });
const schedule = (step) => 0.02 / (1 + step);
const train = async (trainer, batches, options, until = Infinity) => {
  const events = [];
  const all = { epochs: 3, accumulate: 3, schedule, ...options };
  for await (const event of trainer.fit(batches, all)) {
    events.push(event);
    if (event.kind === "steps") await trainer.predict(Float32Array.from(x.slice(0, 8)));
    if (trainer.step >= until) break;
  }
  return events;
};
const steps = (events) => events.flatMap((e) => e.kind === "steps" ? e.steps : []);
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(4, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2),
        nn.Linear(16, 3),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer, 0.5, accumulate=True)
    examples = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    path = tmp_path_factory.mktemp("accumulating") / "model"
    hearth.compile(step, *examples).save(path, runtime=False)
    return path


def train_in_python(folder: Path) -> tuple[list[float], dict[str, Any]]:
    runner = open_runner(folder, "wasm")
    assert isinstance(runner, BundleRunner)
    runner.seed = SEED
    batches = [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, SAMPLES, BATCH)]
    losses = []
    with runner:
        for _ in range(EPOCHS):
            for first in range(0, len(batches), PARTS):
                runner.learning_rate = RATES[runner.step]
                parts = batches[first : first + PARTS]
                found = [runner.accumulate_batch((x,), (y,)).loss for x, y in parts]
                losses.append(float(np.mean(found)))
                runner.apply_gradients()
        return losses, runner.export_weights()


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_fit_takes_several_batches_a_step(
    bare_page: Page, served: Site, folder: Path, backend: str
) -> None:
    served.add_folder("/model/", folder)
    body = """
        const whole = await load();
        const events = await train(whole, loader);
        const halfway = await load();
        await train(halfway, loader, {}, 6);
        const cursor = halfway.cursor;
        const resumed = await load();
        await resumed.loadCheckpoint(await halfway.exportCheckpoint());
        await train(resumed, loader, { from: resumed.cursor });
        const ends = await Promise.all([whole, resumed].map((t) => t.exportCheckpoint()));
        const json = JSON.parse(new TextDecoder().decode(await whole.exportWeights("json")));
        return { steps: steps(events), weights: json.weights, cursor, at: halfway.step,
          ends: ends.map((bytes) => [...bytes]), end: whole.cursor, history: whole.history };"""
    found = attempt(bare_page, PAGE + body, {**GIVEN, "backend": backend})
    losses, weights = train_in_python(folder)
    # Ten batches are steps of 3, 3, 3 and 1.
    assert [step["step"] for step in found["steps"]] == list(range(1, 13))
    assert [step["learningRate"] for step in found["steps"]] == RATES
    np.testing.assert_allclose([step["loss"] for step in found["steps"]], losses, rtol=1e-4)
    assert all(step["gradientNorm"] > 0 for step in found["steps"][:3])
    np.testing.assert_allclose(found["history"]["losses"], losses, rtol=1e-4)
    for name, value in weights.items():
        json = np.array(found["weights"][name.replace(".", "_")]).reshape(value.shape)
        np.testing.assert_allclose(json, value, rtol=1e-3, atol=1e-4, err_msg=name)
    # A run that was left after two steps of its second epoch, or some more, went on there.
    done = found["at"]
    assert 6 <= done <= 8
    assert found["cursor"] == {"epoch": 1, "batch": (done - 4) * PARTS}
    assert found["end"] == {"epoch": EPOCHS, "batch": 0}
    assert found["ends"][0] == found["ends"][1]


def test_a_step_with_a_bad_batch_is_taken_back_whole(
    bare_page: Page, served: Site, folder: Path
) -> None:
    served.add_folder("/model/", folder)
    body = """
        const bad = {
          length: loader.length,
          async *epoch(epoch, skip = 0) {
            let i = skip;
            for await (const batch of loader.epoch(epoch, skip)) {
              const isBad = epoch === 1 && i++ === 4;
              yield isBad ? { ...batch, x: new Float32Array(40).fill(3e38) } : batch;
            }
          },
        };
        const trainer = await load();
        const events = await train(trainer, bad);
        const { loss } = await trainer.evaluateBatch(Float32Array.from(x), Int32Array.from(y));
        return { recoveries: events.filter((e) => e.kind === "recovery"), loss,
          step: trainer.step, cursor: trainer.cursor, losses: trainer.history.losses };"""
    found = attempt(bare_page, PAGE + body, {**GIVEN, "backend": "wasm"})
    assert [event["step"] for event in found["recoveries"]] == [6, 6]
    assert [event["skipped"] for event in found["recoveries"]] == [False, True]
    assert found["step"] == 11  # of 12 one was left out
    assert len(found["losses"]) == 11
    assert np.isfinite(found["losses"]).all()
    assert found["cursor"] == {"epoch": EPOCHS, "batch": 0}
    assert np.isfinite(found["loss"])


def test_a_gpu_that_is_lost_in_a_step_costs_nothing(
    bare_page: Page, served: Site, folder: Path
) -> None:
    served.add_folder("/model/", folder)
    served.pages["/worker.js"] = Reply(WORKER, mime="text/javascript")
    body = """
        const gpu = new BroadcastChannel("gpu");
        const options = { backend, threads: 1, seed: 11, workerUrl: "/worker.js" };
        const ends = [];
        for (const destroys of [false, true]) {
          const trainer = await Trainer.load("/model/", options);
          let destroyed = !destroys;
          const callback = { on() {
            if (destroyed || trainer.step < 15) return;
            destroyed = true;
            gpu.postMessage("now");
          } };
          const events = await train(trainer, loader, { epochs: 15, callbacks: [callback] });
          ends.push({ bytes: [...await trainer.exportCheckpoint()],
            devices: events.filter(({ kind }) => kind === "device").length });
          await trainer.dispose();
        }
        return ends;"""
    whole, lost = attempt(bare_page, PAGE + body, {**GIVEN, "backend": "webgpu"})
    assert (whole["devices"], lost["devices"]) == (0, 1)
    assert lost["bytes"] == whole["bytes"]


def test_a_bundle_without_the_programs_says_so(bare_page: Page) -> None:
    body = """
        const trainer = await Trainer.load("/bundle/", { backend: "wasm", threads: 1 });
        trainer.fit([{ x: [1, 2, 3, 4], y: [0] }], { accumulate: given });"""
    name, message = failure(bare_page, body, 2)
    assert name == "InvalidInputError"
    assert "accumulate=True" in message
    name, message = failure(bare_page, body, 0)
    assert name == "InvalidInputError"
    assert "accumulate is 0" in message

"""`batchSize: "auto"` in a real Chromium: chosen before the first step, and without a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.pages import attempt

pytestmark = pytest.mark.chromium

SAMPLES = 60
BODY = """
const x = Float32Array.from({ length: 4 * given.samples }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: given.samples }, (_, i) => i % 3);
const data = new hearth.ArrayDataset({ x, y, samples: given.samples });
const train = async (batchSize) => {
  const trainer = await Trainer.load("/bundle/", { backend: given.backend, threads: 1 });
  const loader = new hearth.DataLoader(data, { batchSize, shuffle: true });
  const events = [];
  for await (const event of trainer.fit(loader, { epochs: 2 })) events.push(event);
  const weights = [...await trainer.exportWeights()];
  const { device } = trainer;
  await trainer.dispose();
  return { events, weights, size: loader.batchSize, backend: device.backend };
};
const chosen = await train("auto");
return [chosen, await train(chosen.size)];
"""


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_a_run_finds_its_batch_size_and_trains_as_if_it_had_been_given(
    bare_page: Page, backend: str
) -> None:
    chosen, given = attempt(bare_page, BODY, {"samples": SAMPLES, "backend": backend})
    assert chosen["backend"] == backend
    first: dict[str, Any] = chosen["events"][0]
    assert (first["kind"], first["step"], first["batchSize"]) == ("batchSize", 0, chosen["size"])
    assert all(event["kind"] != "batchSize" for event in chosen["events"][1:] + given["events"])
    assert 1 <= chosen["size"] <= SAMPLES
    # A page's clock is coarse, and no step takes no time.
    assert all(ms > 0 for ms in first["stepMs"].values()), first["stepMs"]
    assert chosen["weights"] == given["weights"]


# With this clock larger batches always look faster, and three GPU calls take as long as one.
TICKING = "let now = 0; performance.now = () => (now += 1000);"
MOVING = """
const x = Float32Array.from({ length: 4 * 300 }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: 300 }, (_, i) => i % 3);
const data = new hearth.ArrayDataset({ x, y, samples: 300 });
const options = { backend: "auto", worker: false, softwareGpu: true, threads: 1 };
const open = async () => {
  const trainer = await Trainer.load("/bundle/", options);
  const loader = new hearth.DataLoader(data, { batchSize: "auto", shuffle: true });
  return { trainer, loader };
};
const { trainer, loader } = await open();
// The CPU's own search is held to smaller batches, as a slower device's would be.
const search = trainer.bestBatchSize.bind(trainer);
trainer.bestBatchSize = (x, y, options) => search(x, y, {
  ...options, limit: trainer.device.backend === "wasm" ? 60 : options.limit, stepMs: 1e9,
});
const events = [], sizes = {};
let checkpoint;
for await (const event of trainer.fit(loader, { epochs: given.epochs })) {
  if (event.kind !== "steps") events.push([event.kind, event.epoch, event.step]);
  if (event.kind === "batchSize") sizes[event.epoch] = event.batchSize;
  if (event.kind === "steps" && events.filter(([kind]) => kind === "batchSize").length < 2) {
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  if (event.kind === "batchSize" && event.epoch > 0) checkpoint = await trainer.exportCheckpoint();
}
const { device, comparison } = trainer;
const weights = [...await trainer.exportWeights()];

// The same run, broken off where the size changed, on the CPU and on its way to the GPU.
const again = await open();
await again.trainer.loadCheckpoint(checkpoint);
const from = again.trainer.cursor;
const run = again.trainer.fit(again.loader, { epochs: given.epochs, from });
let found = 0;
for await (const event of run) if (event.kind === "batchSize") found++;
return {
  events, sizes, backend: device.backend, comparison, weights, from,
  again: [...await again.trainer.exportWeights()], found, size: again.loader.batchSize,
};
"""


def test_training_that_moves_to_the_gpu_finds_a_batch_size_there(bare_page: Page) -> None:
    seen = attempt(bare_page, TICKING + MOVING, {"epochs": 60})
    assert (seen["backend"], seen["comparison"]["batch"]) == ("webgpu", 60)
    kinds = [kind for kind, _, _ in seen["events"]]
    assert kinds[0] == "batchSize"
    assert kinds.count("batchSize") == 2
    (first, second) = sorted(map(int, seen["sizes"]))
    assert (first, seen["sizes"][str(first)], seen["sizes"][str(second)]) == (0, 60, 300)
    steps = {epoch: step for kind, epoch, step in seen["events"] if kind == "epoch"}
    # Five batches of 60 an epoch, then one of 300, and the checkpoint knows which come next.
    assert steps[second - 1] == 5 * second
    assert steps[59] == 5 * second + 60 - second
    assert seen["from"] == {"epoch": second, "batch": 0}
    assert (seen["found"], seen["size"]) == (0, 300)
    weights, again = (np.frombuffer(bytes(seen[k])[-68:-8], "<f4") for k in ("weights", "again"))
    np.testing.assert_allclose(again, weights, rtol=1e-3, atol=1e-5)

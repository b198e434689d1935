"""`batchSize: "auto"` in a real Chromium: chosen before the first step, and without a trace."""

from __future__ import annotations

from typing import Any

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

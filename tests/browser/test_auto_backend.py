"""`backend: "auto"` begins on the CPU, measures both on the user's calls, and moves once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.browser.pages import BATCH, GIVEN, attempt, open_page
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

# With this clock every pair of readings is a second apart: three GPU calls look like one.
TICKING = "let now = 0; performance.now = () => (now += 1000);"
TRAIN = """
const devices = [];
const trainer = await Trainer.load("/bundle/", {
  backend: given.backend, worker: false, softwareGpu: true, threads: 1,
  onDevice: (device) => { devices.push(device.backend); },
});
const began = trainer.device.backend;
const losses = [], steps = [];
const train = async () => {
  const result = await trainer.trainBatch(x, y);
  losses.push(result.loss);
  steps.push(result.step);
};
for (let i = 0; i < 5; i++) await train();
trainer.learningRate = 0.05;
const decided = () => given.backend !== "auto" || trainer.comparison || trainer.warnings.length;
while (!decided()) {
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  await train();
  if (losses.length > 2000) throw new Error(`never decided ${trainer.warnings}`);
}
while (losses.length < given.steps) await train();
const gradients = await trainer.gradients(x, y);
return {
  began, losses, steps, devices, comparison: trainer.comparison, warnings: trainer.warnings,
  device: trainer.device.backend, gradient: [...gradients["linear.weight"]],
};
"""


def train(browser: Browser, served: Site, backend: str, *, before: str = "", steps: int = 0) -> Any:
    page = open_page(browser, served)
    try:
        given = GIVEN | {"backend": backend, "steps": steps}
        return attempt(page, before + BATCH + TRAIN, given)
    finally:
        page.close()


def test_training_moves_to_a_faster_gpu_with_its_state(browser: Browser, served: Site) -> None:
    auto = train(browser, served, "auto", before=TICKING)
    assert (auto["began"], auto["device"], auto["devices"][-1]) == ("wasm", "webgpu", "webgpu")
    comparison = auto["comparison"]
    assert (comparison["program"], comparison["batch"]) == ("train", 13)
    assert comparison["gpuMs"] < comparison["cpuMs"]
    assert auto["steps"] == list(range(1, len(auto["losses"]) + 1))
    alone = train(browser, served, "wasm", steps=len(auto["losses"]))
    np.testing.assert_allclose(auto["losses"], alone["losses"], rtol=1e-4)
    scale = np.abs(alone["gradient"]).max()
    np.testing.assert_allclose(auto["gradient"], alone["gradient"], atol=1e-3 * scale)


def test_training_stays_on_a_faster_cpu(browser: Browser, served: Site) -> None:
    auto = train(browser, served, "auto")
    assert (auto["began"], auto["device"], auto["devices"][-1:]) == ("wasm", "wasm", ["wasm"])
    assert auto["comparison"]["gpuMs"] > auto["comparison"]["cpuMs"]


def test_a_gpu_that_errs_is_refused_in_the_background(browser: Browser, served: Site) -> None:
    served.pages["/bundle/kernels.wgsl"] = Reply(b"gone", 404)
    auto = train(browser, served, "auto")
    assert (auto["device"], auto["comparison"]) == ("wasm", None)
    assert "WebGPU is not used" in auto["warnings"][0]


# A GPU whose buffers hold 256 samples of four features; every batch fits on the CPU.
ROOM = """
const trainer = await Trainer.load("/bundle/", {
  backend: given.backend, worker: false, softwareGpu: true, threads: 1, gpuBufferBytes: 4096,
});
const batch = (samples) => [
  Float32Array.from({ length: 4 * samples }, (_, i) => Math.sin(i)),
  Int32Array.from({ length: samples }, (_, i) => i % 3),
];
const losses = [], devices = [];
const train = async (samples) => {
  losses.push((await trainer.trainBatch(...batch(samples))).loss);
  devices.push(trainer.device.backend);
};
const settle = async () => {
  while (given.backend === "auto" && !trainer.comparison) {
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    await trainer.evaluateBatch(...batch(13));
  }
};
if (given.largeFirst) await train(300);
await settle();
for (const samples of [13, 300, 13]) await train(samples);
const { warnings, comparison } = trainer;
return { losses, devices, warnings, comparison, step: trainer.step };
"""


def rooms(browser: Browser, served: Site, backend: str, *, large_first: bool) -> Any:
    page = open_page(browser, served)
    try:
        return attempt(page, TICKING + ROOM, {"backend": backend, "largeFirst": large_first})
    finally:
        page.close()


def test_a_batch_without_room_on_the_gpu_takes_training_back(
    browser: Browser, served: Site
) -> None:
    auto = rooms(browser, served, "auto", large_first=False)
    assert auto["devices"] == ["webgpu", "wasm", "wasm"]
    (warning,) = auto["warnings"]
    assert "a batch of 300" in warning
    assert "training goes on with wasm" in warning
    assert auto["step"] == 3
    alone = rooms(browser, served, "wasm", large_first=False)
    np.testing.assert_allclose(auto["losses"], alone["losses"], rtol=1e-4)


def test_training_stays_where_its_largest_batch_has_room(browser: Browser, served: Site) -> None:
    auto = rooms(browser, served, "auto", large_first=True)
    assert auto["devices"] == ["wasm"] * 4
    assert auto["comparison"]["gpuMs"] is None or auto["comparison"]["gpuMs"] > 1e9
    (warning,) = auto["warnings"]
    assert "WebGPU is not used" in warning
    assert "a batch of 300" in warning

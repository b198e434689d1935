"""A model that is larger than a GPU buffer may be, in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

import hearth
from tests.browser.pages import attempt, failure, open_page, site

pytestmark = pytest.mark.chromium

SHAPE, SMALL, LARGE = (2, 8, 8), 3, 40
PAGE_BYTES = 80 * 1024
# Keeps the sizes of all buffers of the arena that is alive.
WATCH = """
const sizes = [];
const create = GPUDevice.prototype.createBuffer;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = create.call(this, descriptor);
  if (descriptor.label !== "arena") return buffer;
  sizes.push(descriptor.size);
  const destroy = buffer.destroy;
  buffer.destroy = function () {
    sizes.splice(sizes.indexOf(descriptor.size), 1);
    return destroy.call(this);
  };
  return buffer;
};
"""
LOAD = """
const load = (options) => Trainer.load("/model/", {
  backend: "webgpu", worker: false, seed: 3, threads: 1, ...options,
});
const batch = (size) => [
  Float32Array.from(given.x.slice(0, size * 128)), Int32Array.from(given.y.slice(0, size)),
];
"""
TRAIN = """
const trainer = await load({ batchSize: given.small, gpuBufferBytes: given.pageBytes });
const [x, y] = batch(given.large);
const losses = [];
for (const size of [given.small, given.large, given.small]) {
  losses.push((await trainer.trainBatch(...batch(size))).loss);
}
const { device, warnings } = trainer;
const pages = [...sizes];
const gradients = await trainer.gradients(...batch(given.small));
const predicted = [...(await trainer.predict(x))];
const checkpoint = [...await trainer.exportCheckpoint()];
await trainer.loadCheckpoint(Uint8Array.from(checkpoint));
losses.push((await trainer.trainBatch(x, y)).loss);
const planned = trainer.bytesFor(given.large);
await trainer.dispose();
GPUDevice.prototype.createBuffer = create;
return {
  pages, device, planned, warnings, losses, predicted, checkpoint,
  gradients: Object.fromEntries(Object.entries(gradients).map(([k, v]) => [k, [...v]])),
};
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    head = (nn.Flatten(), nn.Dropout(0.3), nn.Linear(8 * 16, 24), nn.GELU(), nn.Linear(24, 5))
    net = nn.Sequential(*layers, *head)
    step = hearth.TrainStep(net, nn.CrossEntropyLoss(), torch.optim.AdamW(net.parameters(), 1e-2))
    folder = tmp_path_factory.mktemp("model") / "dist"
    example = torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.long)
    hearth.compile(step, *example).save(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(browser: Browser, model: Path) -> Any:
    with site(isolated=False) as served:
        served.add_folder("/model/", model)
        page = open_page(browser, served)
        yield page
        page.close()


def given(**more: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    x = random.normal(size=(LARGE, *SHAPE)).astype(np.float32)
    y = random.integers(0, 5, LARGE)
    return {"x": x.ravel().tolist(), "y": y.tolist(), "small": SMALL, "large": LARGE, **more}


def test_training_in_pages_is_bit_for_bit_training_in_one_buffer(loaded: Page) -> None:
    whole, paged = (
        attempt(loaded, WATCH + LOAD + TRAIN, given(pageBytes=limit))
        for limit in (1 << 40, PAGE_BYTES)
    )
    for result in (whole, paged):
        assert result["device"]["backend"] == "webgpu"
        assert result["warnings"] == []
        assert result["device"]["bytes"] == result["planned"]
        assert 0 < result["planned"] - sum(result["pages"]) < 4096  # the ring and the batch size
    assert len(whole["pages"]) == 1
    assert len(paged["pages"]) >= 3
    assert max(paged["pages"]) <= PAGE_BYTES == paged["device"]["pageBytes"]
    for key in ("losses", "predicted", "gradients", "checkpoint"):
        assert paged[key] == whole[key]


def test_a_batch_whose_tensors_no_page_holds_is_refused_and_training_goes_on(
    loaded: Page,
) -> None:
    body = """
    const trainer = await load({ batchSize: 1, gpuBufferBytes: 1 << 15 });
    const error = await trainer.trainBatch(...batch(given.large)).catch((e) => e);
    const { suggestedBatchSize } = error;
    const best = await trainer.bestBatchSize(...batch(given.small), { stepMs: 1e6 });
    const { step } = await trainer.trainBatch(...batch(suggestedBatchSize));
    const { backend } = trainer.device;
    await trainer.dispose();
    return { name: error.name, text: error.message, suggestedBatchSize, step, backend, best };
    """
    refused = attempt(loaded, LOAD + body, given())
    assert (refused["name"], refused["backend"], refused["step"]) == (
        "OutOfMemoryError", "webgpu", 1,
    )  # fmt: skip
    assert "takes 81920 bytes for a batch of 40" in refused["text"]
    assert "test_pages_of_memory.py" in refused["text"]
    assert "(module 0)" in refused["text"]
    assert refused["suggestedBatchSize"] == 16
    assert max(map(int, refused["best"]["stepMs"])) <= 16


@pytest.mark.parametrize("backend", ["auto", "webgpu"])
def test_a_model_that_no_page_holds_trains_on_the_cpu(loaded: Page, backend: str) -> None:
    body = """
    const trainer = await load({
      backend: given.backend, softwareGpu: true, gpuBufferBytes: 4096,
    });
    while (trainer.warnings.length === 0) await new Promise((go) => { setTimeout(go, 20); });
    const { step } = await trainer.trainBatch(...batch(given.small));
    const { device, warnings } = trainer;
    await trainer.dispose();
    return { step, backend: device.backend, warnings };
    """
    found = attempt(loaded, LOAD + body, given(backend=backend))
    assert (found["backend"], found["step"]) == ("wasm", 1)
    assert "WebGPU is not used: " in found["warnings"][0]
    assert "binds at most 4096 in one piece" in found["warnings"][0]


def test_a_limit_that_holds_no_binding_is_refused(loaded: Page) -> None:
    name, text = failure(loaded, LOAD + "await load({ gpuBufferBytes: 100 });", given())
    assert name == "InvalidInputError"
    assert "gpuBufferBytes is 100, expected a number from 256 up" in text

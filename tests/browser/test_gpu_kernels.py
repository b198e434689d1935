"""Which of a bundle's WebGPU kernels a device gets, in a real Chromium, and that all agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

import hearth
from tests.browser.pages import attempt, file_entry, site
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

BATCH, FEATURES = 32, 512  # so many that the sum over them is split in some variant
TRAIN = """
const trainer = await Trainer.load("/mlp/", {
  backend: "webgpu", worker: given.worker ?? false, gpuKernels: given.kernels,
});
const x = Float32Array.from(given.x), y = Int32Array.from(given.y);
const losses = [];
for (let i = 0; i < 4; i++) losses.push((await trainer.trainBatch(x, y)).loss);
const { device, warnings } = trainer;
await trainer.dispose();
return { device, warnings, losses };
"""
STORED = """
return await new Promise((resolve) => {
  const opening = indexedDB.open("hearth-kernels");
  opening.onsuccess = () => {
    const names = [...opening.result.objectStoreNames];
    if (names.length === 0) return resolve({});
    const store = opening.result.transaction(names[0]).objectStore(names[0]);
    const keys = store.getAllKeys(), values = store.getAll();
    values.onsuccess = () => resolve(
      Object.fromEntries(keys.result.map((key, i) => [key, values.result[i]])));
  };
});
"""
# Counts the timings that `measureKernels` submits while a page lives.
COUNTING = """
let waits = 0;
const done = GPUQueue.prototype.onSubmittedWorkDone;
GPUQueue.prototype.onSubmittedWorkDone = function () { waits++; return done.call(this); };
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    folder = tmp_path_factory.mktemp("bundle") / "mlp"
    example = torch.zeros(2, FEATURES), torch.zeros(2, dtype=torch.long)
    hearth.compile(step, *example, backends=("webgpu", "wasm")).save(folder)
    return folder


@pytest.fixture
def served(bundle: Path) -> Iterator[Site]:
    with site(isolated=False) as opened:
        opened.add_folder("/mlp/", bundle)
        yield opened


def given(kernels: str | None = None, **more: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    x = random.normal(size=(BATCH, FEATURES)).astype(np.float32)
    y = random.integers(0, 10, BATCH)
    asked = {} if kernels is None else {"kernels": kernels}
    return {"x": x.ravel().tolist(), "y": y.tolist(), **asked, **more}


def variants(bundle: Path) -> list[str]:
    manifest = json.loads((bundle / "manifest.json").read_text())
    return [variant["name"] for variant in manifest["wgsl"]["variants"]]


def test_all_kernels_of_a_bundle_train_alike(bare_page: Page, bundle: Path) -> None:
    found = {
        name: attempt(bare_page, TRAIN, given(name)) for name in ("general", *variants(bundle))
    }
    for name, result in found.items():
        if result["device"]["backend"] == "wasm":  # a feature that this adapter lacks
            assert any(f'"{name}"' in warning for warning in result["warnings"])
            continue
        assert result["device"]["kernels"] == name
        np.testing.assert_allclose(result["losses"], found["general"]["losses"], rtol=1e-5)
    assert sum(r["device"]["backend"] == "webgpu" for r in found.values()) >= 3
    manifest = json.loads((bundle / "manifest.json").read_text())
    (split,) = (v for v in manifest["wgsl"]["variants"] if v["name"] == "split")
    assert split["finish"]
    assert found["split"]["device"]["bytes"] > found["general"]["device"]["bytes"]


def test_an_adapter_in_software_gets_its_kernels_unasked(bare_page: Page, bundle: Path) -> None:
    result = attempt(bare_page, TRAIN, given())
    assert result["device"]["kernels"] in variants(bundle)
    assert result["warnings"] == []


@pytest.mark.parametrize("worker", [False, True], ids=["page", "worker"])
def test_what_was_measured_is_kept_for_the_next_visit(
    browser: Browser, served: Site, bundle: Path, worker: bool
) -> None:
    context = browser.new_context()
    try:
        results, waits = [], []
        for _ in range(2):
            page = context.new_page()
            page.goto(served.url + "index.html")
            page.wait_for_function("document.title === 'ready'")
            body = COUNTING + TRAIN.replace("return {", "return { waits,")
            results.append(attempt(page, body, given("measured", worker=worker)))
            waits.append(results[-1]["waits"])
            stored = attempt(page, STORED)
            page.close()
    finally:
        context.close()
    assert [r["device"]["kernels"] for r in results] == ["measured", "measured"]
    assert results[0]["losses"] == results[1]["losses"]
    (choice,) = stored.values()
    assert set(choice.values()) <= set(variants(bundle))
    if not worker:
        assert waits[0] > waits[1]


def test_kernels_that_compute_wrong_numbers_give_way_to_the_general_ones(
    bare_page: Page, served: Site, bundle: Path
) -> None:
    chosen = attempt(bare_page, TRAIN, given())["device"]["kernels"]
    manifest = json.loads((bundle / "manifest.json").read_text())
    (variant,) = (v for v in manifest["wgsl"]["variants"] if v["name"] == chosen)
    text = (bundle / variant["file"]).read_text().replace("dot(", "-dot(")
    text = text.replace("fma(", "-fma(")
    manifest["files"][variant["file"]] = file_entry(text.encode())
    served.pages[f"/mlp/{variant['file']}"] = Reply(text.encode())
    served.pages["/mlp/manifest.json"] = Reply(json.dumps(manifest).encode())
    result = attempt(bare_page, TRAIN, given())
    assert (result["device"]["backend"], result["device"]["kernels"]) == ("webgpu", "general")
    assert any("WebGPU is not used" in warning for warning in result["warnings"])

"""The learning rate finder in a real Chromium: it gives its trainer back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page
from torch import nn

import hearth
from tests.browser.pages import attempt
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

RUN = """
const x = Float32Array.from({ length: 400 }, (_, i) => Math.sin(i * i));
const y = Int32Array.from({ length: 100 }, (_, i) => (i * i) % 3);
const data = new hearth.ArrayDataset({ x, y, samples: 100 });
const loader = new hearth.DataLoader(data, { batchSize: 20, shuffle: true, seed: 4 });
const trainer = await Trainer.load("/model/", { backend: given.backend, threads: 1, seed: 11 });
for await (const event of trainer.fit(loader, { epochs: 2 })) {
  if (event.kind === "steps" && trainer.step >= 7) break;
}
const look = async () => [
  trainer.step, trainer.cursor, structuredClone(trainer.history), trainer.learningRate,
  [...await trainer.exportCheckpoint()],
];
const before = await look();
const found = given.finds ? await hearth.findLearningRate(trainer, loader, { to: 1e3 }) : null;
const after = await look();
for await (const event of trainer.fit(loader, { epochs: 3, from: trainer.cursor }));
return { before, after, found, end: [...await trainer.exportCheckpoint()] };
"""


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_a_run_goes_on_as_if_the_finder_had_not_trained(
    bare_page: Page, served: Site, backend: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    examples = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    hearth.compile(step, *examples, backends=[backend]).save(tmp_path / "model", runtime=False)
    served.add_folder("/model/", tmp_path / "model")
    looked = attempt(bare_page, RUN, {"backend": backend, "finds": True})
    assert looked["before"][0] >= 7
    assert looked["after"] == looked["before"]
    found = looked["found"]
    assert 20 < len(found["rates"]) < 100  # no model trains at 1000
    assert found["rates"][0] < found["suggestion"] < 10
    plain = attempt(bare_page, RUN, {"backend": backend, "finds": False})
    assert plain["end"] == looked["end"]

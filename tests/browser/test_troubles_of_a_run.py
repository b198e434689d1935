"""What can happen to a run in a page: bad numbers, a dead worker, no memory; in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import Tensor, nn

import hearth
from tests.browser.pages import attempt, open_page, site
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

# The worker's own file; a message makes it throw where nobody catches.
WORKER = b"""
import "/hearth.js";
new BroadcastChannel("worker").onmessage = () => { throw new Error("out of memory"); };
"""
DATA = """
const x = Float32Array.from({ length: 400 }, (_, i) => 1.5 + Math.sin(i));
const y = Int32Array.from({ length: 100 }, (_, i) => i % 3);
const dataset = new hearth.ArrayDataset({ x, y, samples: 100 });
const loader = new hearth.DataLoader(dataset, { batchSize: 7, shuffle: true, seed: 4 });
"""


class RootOfSquares(nn.Module):
    """Three layers; where the second gives zeros, the slope of its root is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6, bias=False)
        self.third = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(
            self.second(self.first(x) * x[:, :1]).square().sum(1, keepdim=True).sqrt().expand(-1, 6)
        )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model, without and with the program that looks into a step."""
    torch.manual_seed(0)
    model = RootOfSquares()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    folders = {}
    for name, inspect in (("roots", False), ("inspected", True)):
        example = torch.rand(2, 4), torch.zeros(2, dtype=torch.long)
        folders[name] = tmp_path_factory.mktemp(name) / "dist"
        hearth.compile(step, *example, inspect=inspect).save(folders[name])
    return folders


@pytest.fixture
def roots_page(browser: Browser, bundles: dict[str, Path]) -> Iterator[Page]:
    with site(isolated=False) as served:
        for name, folder in bundles.items():
            served.add_folder(f"/{name}/", folder)
        page = open_page(browser, served)
        yield page
        page.close()


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_a_step_with_gradients_of_nan_is_taken_back_and_the_layer_named(
    roots_page: Page, backend: str
) -> None:
    found: dict[str, Any] = attempt(
        roots_page,
        DATA
        + """
        const trainer = await Trainer.load("/roots/", { backend: given, threads: 1 });
        if (trainer.device.backend !== given) throw new Error(trainer.warnings[0]);
        // Zeros in the tenth batch: 0 times infinity in the way back.
        const poisoned = { length: loader.length, async *epoch(epoch, skip = 0) {
          let i = skip;
          for await (const batch of loader.epoch(epoch, skip)) {
            yield epoch === 0 && i++ === 9 ? { ...batch, x: new Float32Array(28) } : batch;
          }
        } };
        const events = [];
        const recovery = { everySteps: 8 };
        for await (const event of trainer.fit(poisoned, { epochs: 4, recovery })) {
          if (event.kind === "recovery") events.push(event);
        }
        const losses = trainer.history.losses;
        return { events, step: trainer.step, rate: trainer.learningRate,
          finite: losses.every(Number.isFinite), losses: losses.length };""",
        backend,
    )
    first, second = found["events"]
    assert first["diagnosis"]["layer"] == "second"
    assert first["diagnosis"]["finding"] == "its gradient is not finite"
    assert first["diagnosis"]["names"] == ["first.weight", "first.bias", "second.weight"]
    assert first["diagnosis"]["step"] == 10  # its loss was finite: only the next one showed it
    assert (first["step"], first["skipped"]) == (11, False)
    assert first["restored"] in (0, 8)
    assert (second["step"], second["skipped"]) == (11, True)
    assert (found["step"], found["losses"], found["finite"]) == (59, 59, True)
    assert found["rate"] == pytest.approx(0.05 / 16)


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_a_bundle_that_can_be_looked_into_names_the_module_that_overflows(
    roots_page: Page, backend: str
) -> None:
    blind, seeing = attempt(
        roots_page,
        DATA
        + """
        // The fifth batch is finite, and so is what the first layer makes of it.
        const huge = { length: loader.length, async *epoch(epoch, skip = 0) {
          let i = skip;
          for await (const batch of loader.epoch(epoch, skip)) {
            const x = new Float32Array(28).fill(1e25);
            yield epoch === 0 && i++ === 4 ? { ...batch, x } : batch;
          }
        } };
        const found = [];
        for (const url of ["/roots/", "/inspected/"]) {
          const trainer = await Trainer.load(url, { backend: given, threads: 1 });
          if (trainer.device.backend !== given) throw new Error(trainer.warnings[0]);
          const run = trainer.fit(huge, { epochs: 1, recovery: { everySteps: 8 } });
          for await (const event of run) {
            if (event.kind === "recovery") { found.push(event.diagnosis); break; }
          }
        }
        return found;""",
        backend,
    )
    assert (blind["step"], blind["layer"]) == (5, "third")  # a guess: what grew most
    assert "grew" in blind["finding"]
    assert (seeing["step"], seeing["layer"]) == (5, "second")
    assert seeing["finding"] == "its output is not finite"


def test_a_worker_that_dies_is_replaced_and_the_run_ends_with_the_same_bits(
    browser: Browser, served: Site
) -> None:
    served.pages["/worker.js"] = Reply(WORKER, mime="text/javascript")
    page = open_page(browser, served)
    lost, whole, events, warnings = attempt(
        page,
        DATA
        + """
        const channel = new BroadcastChannel("worker");
        const options = { backend: "wasm", workerUrl: "/worker.js", threads: 1 };
        const fit = async (trainer, deadly) => {
          const callbacks = [hearth.saving("run", { everySteps: 8 })];
          const [schedule, events] = [(step) => 0.2 / (2 + step), []];
          const run = trainer.fit(loader, { epochs: 6, validate: loader, schedule, callbacks });
          for await (const event of run) {
            if (event.kind === "device") events.push(event);
            if (trainer.step < deadly) continue;
            deadly = Infinity;
            channel.postMessage("die");
          }
          return events;
        };
        const [one, other] = [await Trainer.load("/bundle/", options),
          await Trainer.load("/bundle/", { backend: "wasm", threads: 1 })];
        const events = await fit(one, 30);
        await fit(other, Infinity);
        const bytes = [await one.exportCheckpoint(), await other.exportCheckpoint()];
        return [...bytes.map((all) => [...all]), events, one.warnings];""",
    )
    assert lost == whole
    (event,) = events
    assert "the worker that trains has died" in event["reason"]
    assert event["repeated"] >= 0
    assert "another worker takes over" in warnings[0]
    page.close()


def test_a_worker_that_dies_with_nothing_saved_is_an_error(browser: Browser, served: Site) -> None:
    served.pages["/worker.js"] = Reply(WORKER, mime="text/javascript")
    page = open_page(browser, served)
    message = attempt(
        page,
        DATA
        + """
        const options = { backend: "wasm", workerUrl: "/worker.js", threads: 1 };
        const trainer = await Trainer.load("/bundle/", options);
        try {
          for await (const event of trainer.fit(loader, { epochs: 600 })) {
            if (trainer.step === 15) new BroadcastChannel("worker").postMessage("die");
          }
        } catch (error) {
          return `${error.name}: ${error.message}`;
        }""",
    )
    assert message.startswith("BackendError: the worker that trains has died")
    assert "resume the last checkpoint" in message
    page.close()


def test_a_gpu_without_room_names_the_batch_that_fits(browser: Browser, served: Site) -> None:
    page = open_page(browser, served)
    suggested, step, before, after = attempt(
        page,
        DATA
        + """
        // SwiftShader takes the machine's memory before it says that there is none.
        const { createBuffer, popErrorScope } = GPUDevice.prototype;
        let isTooLarge = false;
        GPUDevice.prototype.createBuffer = function (options) {
          isTooLarge = options.size > 2_000_000;
          return createBuffer.call(this, options);
        };
        GPUDevice.prototype.popErrorScope = async function () {
          const error = await popErrorScope.call(this);
          if (!isTooLarge) return error;
          isTooLarge = false;
          return new GPUOutOfMemoryError("no memory");
        };
        const trainer = await Trainer.load("/bundle/", { backend: "webgpu", worker: false });
        await trainer.trainBatch(x, y);
        const before = [...await trainer.exportWeights()];
        const many = (count) => [new Float32Array(4 * count), new Int32Array(count)];
        const error = await trainer.trainBatch(...many(100_000)).catch((e) => e);
        if (!(error instanceof hearth.OutOfMemoryError)) throw error;
        const after = [...await trainer.exportWeights()];
        await trainer.trainBatch(x, y);
        return [error.suggestedBatchSize, trainer.step, before, after];""",
    )
    assert suggested == 50_000
    assert step == 2
    assert before == after
    page.close()


def test_a_page_goes_on_drawing_while_its_worker_trains(browser: Browser, served: Site) -> None:
    page = open_page(browser, served)
    frames, longest, steps = attempt(
        page,
        DATA
        + """
        const trainer = await Trainer.load("/bundle/", { backend: "wasm" });
        const times = [];
        let runs = true;
        const draw = (time) => { times.push(time); if (runs) requestAnimationFrame(draw); };
        requestAnimationFrame(draw);
        const end = performance.now() + 1500;
        for await (const event of trainer.fit(loader, { epochs: 1e6 })) {
          if (performance.now() > end) break;
        }
        runs = false;
        const gaps = times.slice(1).map((time, i) => time - times[i]);
        return [times.length, Math.max(...gaps), trainer.step];""",
    )
    assert steps > 15
    assert frames > 20, (frames, longest)
    page.close()

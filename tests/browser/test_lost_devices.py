"""A GPU that is lost while it trains, in a real Chromium: the run goes on and loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.pages import attempt, change_manifest, failure, open_page
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

# The worker's own file, with a way to destroy its GPU from the page.
WORKER = b"""
import "/hearth.js";
const devices = [];
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...options) {
  const device = await requestDevice.apply(this, options);
  devices.push(device);
  return device;
};
new BroadcastChannel("gpu").onmessage = () => { devices.at(-1)?.destroy(); };
"""
FIT = """
const x = Float32Array.from({ length: 400 }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: 100 }, (_, i) => i % 3);
const dataset = new hearth.ArrayDataset({ x, y, samples: 100 });
const loader = new hearth.DataLoader(dataset, { batchSize: 7, shuffle: true, seed: 4 });
const gpu = new BroadcastChannel("gpu");
const load = () => Trainer.load("/bundle/", {
  backend: "webgpu", workerUrl: "/worker.js", onWarning: (text) => warnings.push(text),
});
const warnings = [];
const kinds = ["device", "recovery"];
// Trains 8 epochs of 15 steps, and destroys the device after each of these steps.
const fit = async (trainer, losses, steps = []) => {
  const [left, events] = [[...losses], []];
  const schedule = (step) => 0.2 / (2 + step);
  for await (const event of trainer.fit(loader, { epochs: 8, schedule })) {
    if (event.kind === "steps") steps.push(...event.steps.map(({ step }) => step));
    if (kinds.includes(event.kind)) events.push(event);
    if (trainer.step >= left[0]) {
      left.shift();
      gpu.postMessage("destroy");
    }
  }
  return events;
};
"""


@pytest.fixture
def gpu_page(browser: Browser, served: Site) -> Any:
    served.pages["/worker.js"] = Reply(WORKER, mime="text/javascript")
    page = open_page(browser, served)
    yield page
    page.close()


def test_a_run_on_a_lost_gpu_ends_with_the_bits_of_one_that_was_not(gpu_page: Page) -> None:
    lost, whole, events, steps, warnings, backend = attempt(
        gpu_page,
        FIT
        + """
        const [one, other, steps] = [await load(), await load(), []];
        await fit(other, []);
        const whole = [...await other.exportCheckpoint()];
        await other.dispose();
        const events = await fit(one, [37], steps);
        const lost = [...await one.exportCheckpoint()];
        return [lost, whole, events, steps, warnings, one.device.backend];""",
    )
    assert lost == whole
    assert backend == "webgpu"
    assert steps == list(range(1, 121))
    (event,) = events
    assert (event["kind"], event["device"]["backend"]) == ("device", "webgpu")
    assert event["step"] >= 37
    assert 0 < event["repeated"] <= 50 + 8
    assert "the GPU disappeared" in warnings[0]
    assert f"{event['repeated']} steps were taken again" in warnings[0]


def test_a_second_loss_moves_the_run_to_the_cpu(gpu_page: Page) -> None:
    losses, backends, backend, step = attempt(
        gpu_page,
        FIT
        + """
        const [one, other] = [await load(), await load()];
        await fit(other, []);
        const events = await fit(one, [20, 70]);
        const [a, b] = [one, other].map(({ history }) => history.losses.at(-1));
        return [[a, b], events.map(({ device }) => device.backend), one.device.backend, one.step];
        """,
    )
    assert backends == ["webgpu", "wasm"]
    assert (backend, step) == ("wasm", 120)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_loss_with_no_device_left_says_so(gpu_page: Page, served: Site) -> None:
    change_manifest(served, {"wasm": None})
    name, message = failure(gpu_page, FIT + "await fit(await load(), [20, 70]);")
    assert name == "DeviceLostError"
    assert "no device is left" in message
    assert "wasm: no backend runs this bundle" in message


def test_single_steps_and_predictions_survive_a_loss_in_flight(gpu_page: Page) -> None:
    lost, whole, warnings = attempt(
        gpu_page,
        FIT
        + """
        const run = async (isLost) => {
          const trainer = await load();
          const batch = (i) => [x.slice(4 * i, 4 * i + 28), y.slice(i, i + 7)];
          for (let i = 0; i < 5; i++) await trainer.trainBatch(...batch(i));
          const flight = [];
          for (let i = 5; i < 15; i++) {
            if (i === 9 && isLost) gpu.postMessage("destroy");
            flight.push(trainer.trainBatch(...batch(i)).then(({ loss, step }) => [loss, step]));
            flight.push(trainer.predict(x).then((values) => [...values]));
          }
          const values = await Promise.all(flight);
          const gradients = Object.entries(await trainer.gradients(x, y)).map(
            ([name, data]) => [name, [...data]]);
          return [values, gradients, [...await trainer.exportCheckpoint()]];
        };
        return [await run(true), await run(false), warnings];""",
    )
    assert lost == whole
    (warning,) = warnings
    assert "training goes on with webgpu" in warning

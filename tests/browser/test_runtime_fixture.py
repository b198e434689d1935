"""The browser runtime in a real Chromium, on the bundle that was written by hand.

Three ways to compute: WebAssembly with threads (a cross-origin isolated page), without, and WebGPU
on a software adapter.  The oracle is the fixture's own float64 arithmetic.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page

from tests.browser import least_squares as fixture
from tests.browser.pages import BATCH, FIXTURE, GIVEN, Way, X, Y, attempt

pytestmark = pytest.mark.chromium


def weights_of(data: list[int]) -> NDArray[np.float32]:
    """The 15 parameters in an exported file; the int64 counter follows them."""
    return np.frombuffer(bytes(data)[-68:-8], np.float32)


def test_the_fixture_folder_is_what_its_script_writes() -> None:
    for name, data in fixture.files().items():
        assert (FIXTURE / name).read_bytes() == data


def test_the_device_is_the_one_asked_for(page: Page, way: Way) -> None:
    device, warnings = attempt(page, "return [trainer.device, trainer.warnings];")
    assert (device["backend"], device["threads"]) == (way.backend, way.threads)
    assert warnings == []
    assert device["batchSize"] == fixture.GOLDEN_BATCH


def test_twenty_steps_agree_with_float64(page: Page) -> None:
    losses, data = attempt(
        page,
        BATCH
        + """
        const losses = [];
        for (let i = 0; i < 20; i++) losses.push((await trainer.trainBatch(x, y)).loss);
        return [losses, [...await trainer.exportWeights()]];""",
        GIVEN,
    )
    weight, bias = fixture.initial_weights()
    momentum = [np.zeros_like(weight), np.zeros_like(bias)]
    for loss in losses:
        expected, *gradients = fixture.gradients(weight, bias, X.astype(np.float64), Y)
        assert loss == pytest.approx(expected, rel=1e-5)
        momentum = [fixture.MOMENTUM * m + g for m, g in zip(momentum, gradients, strict=True)]
        weight, bias = weight - fixture.RATE * momentum[0], bias - fixture.RATE * momentum[1]
    trained = weights_of(data)
    np.testing.assert_allclose(trained, [*weight.ravel(), *bias], rtol=1e-4, atol=1e-6)
    assert int.from_bytes(bytes(data)[-8:], "little") == 20


def test_fit_takes_the_same_steps_and_predicts_meanwhile(page: Page) -> None:
    fitted, single, predictions, kinds = attempt(
        page,
        BATCH
        + """
        const dataset = new hearth.ArrayDataset({ x, y, samples: 13 });
        const loader = new hearth.DataLoader(dataset, { batchSize: 3, shuffle: true, seed: 8 });
        const start = await trainer.exportCheckpoint();
        const schedule = (step) => 0.1 / (1 + step);
        const [fitted, single, kinds] = [[], [], []];
        let predictions = 0;
        for await (const event of trainer.fit(loader, { epochs: 4, validate: loader, schedule })) {
          kinds.push(event.kind);
          if (event.kind === "steps") fitted.push(...event.steps.map(({ loss }) => loss));
          trainer.predict(x).then(() => predictions++);
        }
        const end = await trainer.exportWeights();
        await trainer.loadCheckpoint(start);
        for (let epoch = 0; epoch < 4; epoch++) {
          for await (const batch of loader.epoch(epoch)) {
            trainer.learningRate = schedule(single.length);
            single.push((await trainer.trainBatch(batch.x, batch.y)).loss);
          }
        }
        const same = String(end) === String(await trainer.exportWeights());
        return [fitted, same ? single : "other weights", predictions, kinds];""",
        GIVEN,
    )
    assert fitted == single
    assert predictions == len(kinds)
    assert [kind for kind in kinds if kind != "steps"] == ["epoch", "validation"] * 4


def test_gradients_and_predictions_agree_and_leave_the_weights(page: Page) -> None:
    gradients, logits, data = attempt(
        page,
        BATCH
        + """
        const g = await trainer.gradients(x, y);
        return [Object.fromEntries(Object.entries(g).map(([k, v]) => [k, [...v]])),
                [...await trainer.predict(x)], [...await trainer.exportWeights()]];""",
        GIVEN,
    )
    weight, bias = fixture.initial_weights()
    _, *expected = fixture.gradients(weight, bias, X.astype(np.float64), Y)
    np.testing.assert_allclose(gradients["linear.weight"], expected[0].ravel(), 1e-4, 1e-6)
    np.testing.assert_allclose(gradients["linear.bias"], expected[1], 1e-4, 1e-6)
    np.testing.assert_allclose(logits, (X @ weight.T + bias).ravel(), 1e-4, 1e-6)
    assert bytes(data) == (FIXTURE / "weights.safetensors").read_bytes()


def test_many_steps_in_flight_equal_single_steps(page: Page) -> None:
    single, flight = attempt(
        page,
        BATCH
        + """
        const start = await trainer.exportCheckpoint();
        const single = [], parts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        const batch = (i) => [x.slice(4 * i, 4 * i + 8), y.slice(i, i + 2)];
        for (const i of parts) single.push((await trainer.trainBatch(...batch(i))).loss);
        await trainer.loadCheckpoint(start);
        const flight = await Promise.all(parts.map((i) => trainer.trainBatch(...batch(i))));
        return [single, flight.map(({ loss, step }) => [loss, step])];""",
        GIVEN,
    )
    assert [loss for loss, _ in flight] == single
    assert [step for _, step in flight] == list(range(1, 13))


def test_a_larger_batch_makes_room_and_keeps_the_state(page: Page) -> None:
    before, after, large, device = attempt(
        page,
        BATCH
        + """
        await trainer.trainBatch(x.slice(0, 8), y.slice(0, 2));
        const before = [...await trainer.exportCheckpoint()];
        const large = await trainer.predict(new Float32Array(4 * 1_500_000));
        const after = [...await trainer.exportCheckpoint()];
        return [before, after, [large.length, large[3], large[4_499_997]], trainer.device];""",
        GIVEN,
    )
    assert before == after
    assert large[0] == 4_500_000  # on WebGPU more workgroups than one dimension holds
    assert large[1] == large[2]
    assert device["batchSize"] == 1_500_000
    assert device["bytes"] >= 1_500_000 * 28


def test_a_checkpoint_continues_the_run_bit_for_bit(page: Page, way: Way) -> None:
    one, two, rate = attempt(
        page,
        BATCH
        + """
        trainer.learningRate = 0.05;
        await trainer.trainBatch(x, y);
        const checkpoint = await trainer.exportCheckpoint();
        await trainer.trainBatch(x, y);
        const one = [...await trainer.exportCheckpoint()];
        const again = await Trainer.load("/bundle/", given.options);
        await again.loadCheckpoint(checkpoint);
        await again.trainBatch(x, y);
        const two = [...await again.exportCheckpoint()];
        await again.dispose();
        return [one, two, again.learningRate];""",
        GIVEN | {"options": {"backend": way.backend, "threads": way.threads}},
    )
    assert one == two
    assert rate == 0.05


def test_the_json_form_brings_weights_home(page: Page) -> None:
    data = attempt(
        page,
        BATCH
        + """
        const json = await trainer.exportWeights("json");
        await trainer.trainBatch(x, y);
        await trainer.loadWeights(json);
        return [...await trainer.exportWeights()];""",
        GIVEN,
    )
    assert bytes(data) == (FIXTURE / "weights.safetensors").read_bytes()


def test_the_arrays_of_the_page_stay_whole(page: Page) -> None:
    lengths = attempt(
        page, BATCH + "await trainer.trainBatch(x, y); return [x.length, y.length];", GIVEN
    )
    assert lengths == [52, 13]

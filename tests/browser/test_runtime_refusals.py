"""What the browser runtime does with bad calls, in a real Chromium.

Each ends in an error of its class, with words that say what to do, and a trainer that still works.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.pages import (
    BATCH,
    FIXTURE,
    GIVEN,
    WAYS,
    Way,
    attempt,
    change_manifest,
    failure,
    load,
    open_page,
    site,
)

pytestmark = pytest.mark.chromium

# Every bad input: what the page does, the error's class, and words of its message.
BAD_CALLS = (
    ("trainer.trainBatch(new Float32Array(7), [0])", "InvalidInputError", "no multiple of the 4"),
    ("trainer.trainBatch(new Float32Array(0), [])", "InvalidInputError", "x is empty"),
    ("trainer.trainBatch(new Float32Array(8), [0])", "InvalidInputError", "y has 1 samples"),
    ("trainer.trainBatch(new Float32Array(8), [0, 3])", "InvalidInputError", "y[1] is 3"),
    ("trainer.trainBatch(new Float32Array(8), [0, -1])", "InvalidInputError", "0 to 2 or -100"),
    ("trainer.trainBatch(new Float32Array(8), [0, 0.5])", "InvalidInputError", "is 0.5"),
    ("trainer.trainBatch(new Float32Array(8), ['a', 'b'])", "InvalidInputError", "a string"),
    ("trainer.trainBatch(new Float32Array(4), [NaN])", "InvalidInputError", "y[0] is NaN"),
    ("trainer.trainBatch(Float32Array.of(0, NaN, 0, 0), [0])", "InvalidInputError", "x[0, 1]"),
    ("trainer.trainBatch([0, 0, 0, -Infinity], [0])", "InvalidInputError", "-Infinity"),
    ("trainer.trainBatch([1e39, 0, 0, 0], [0])", "InvalidInputError", "1e+39"),
    ("trainer.trainBatch(new Uint8Array(4), [0])", "InvalidInputError", "x is Uint8Array"),
    ("trainer.trainBatch(new Float32Array(4), Float32Array.of(0))", "InvalidInputError", "int64"),
    ("trainer.trainBatch(new Float32Array(4))", "InvalidInputError", "y: 0 arrays given"),
    ("trainer.trainBatch()", "InvalidInputError", "x is undefined"),
    ("trainer.trainBatch(null, [0])", "InvalidInputError", "x is null"),
    ("trainer.trainBatch('images', [0])", "InvalidInputError", "x is a string"),
    ("trainer.trainBatch(new ArrayBuffer(16), [0])", "InvalidInputError", "x is ArrayBuffer"),
    (
        "trainer.trainBatch([new Float32Array(4), new Float32Array(4)], [0])",
        "InvalidInputError",
        "x: 2 arrays given",
    ),
    ("trainer.trainBatch([[1, 2, 3, 4], 7], [0])", "InvalidInputError", "x[1] is a number"),
    ("trainer.trainBatch([() => 1, 0, 0, 0], [0])", "InvalidInputError", "cannot be sent"),
    (
        "trainer.trainBatch(new Float32Array(4), BigInt64Array.of(2n ** 40n))",
        "InvalidInputError",
        "1099511627776",
    ),
    ("trainer.predict(new Float32Array(6))", "InvalidInputError", "6 values"),
    ("trainer.evaluateBatch(new Float32Array(4), [9])", "InvalidInputError", "y[0] is 9"),
    ("trainer.gradients(new Float32Array(4), [])", "InvalidInputError", "y is empty"),
    ("trainer.run('fly', {})", "InvalidInputError", 'no program "fly"'),
    ("trainer.run('predict', {})", "InvalidInputError", 'input "x" is missing'),
    ("trainer.run('predict', { x: [0, 0, 0, 0], z: [1] })", "InvalidInputError", 'input "z"'),
    ("(async () => { trainer.learningRate = -1; })()", "InvalidInputError", "is -1"),
    ("(async () => { trainer.learningRate = [1, 2]; })()", "InvalidInputError", "2 learning"),
    ("trainer.exportWeights('onnx')", "InvalidInputError", 'weight format "onnx"'),
    ("trainer.loadWeights(new Uint8Array(0))", "BundleFormatError", "neither safetensors"),
    ("trainer.loadWeights('<!doctype html>')", "BundleFormatError", "neither safetensors"),
    ("trainer.loadWeights('{}')", "BundleFormatError", 'no object "weights"'),
    ('trainer.loadWeights(\'{"weights": {"a": [1]}}\')', "BundleFormatError", "lacks"),
    (
        "trainer.exportWeights().then((w) => trainer.loadWeights(w.slice(0, 250)))",
        "BundleFormatError",
        "truncated",
    ),
    ("trainer.loadWeights(7)", "InvalidInputError", "Uint8Array"),
    (
        "trainer.exportWeights().then((w) => trainer.loadCheckpoint(w))",
        "BundleFormatError",
        "not a Hearth checkpoint",
    ),
    ("trainer.loadCheckpoint(new Uint8Array(20))", "BundleFormatError", "no safetensors file"),
)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]], ids=lambda way: way.name, indirect=True)
def test_every_bad_call_ends_in_its_error_and_the_trainer_goes_on(page: Page) -> None:
    assert len(BAD_CALLS) >= 30
    start = attempt(page, "return [...await trainer.exportCheckpoint()];")
    for call, name, words in BAD_CALLS:
        found, message = failure(page, f"return {call};")
        assert found == name, f"{call}: {found}: {message}"
        assert words in message, f"{call}: {message}"
    assert attempt(page, "return [...await trainer.exportCheckpoint()];") == start
    assert attempt(page, BATCH + "return (await trainer.trainBatch(x, y)).step;", GIVEN) == 1


def test_a_diverging_step_says_so_and_loaded_weights_bring_the_model_back(page: Page) -> None:
    name, message = failure(
        page,
        BATCH
        + """
        globalThis.weights = await trainer.exportWeights();
        trainer.learningRate = 3e38;
        for (let i = 0; i < 3; i++) await trainer.trainBatch(x, y);""",
        GIVEN,
    )
    assert name == "NumericalInstabilityError"
    assert "learning rate" in message
    loss = attempt(
        page,
        BATCH
        + "await trainer.loadWeights(weights); return (await trainer.evaluateBatch(x, y)).loss;",
        GIVEN,
    )
    assert np.isfinite(loss)


def test_a_batch_that_does_not_fit_suggests_a_smaller_one(browser: Browser, way: Way) -> None:
    with site(isolated=way.isolated) as served:
        manifest = json.loads((FIXTURE / "manifest.json").read_bytes())
        # 25 MB for the recorded step's batch of 5, 6.4 GB for a batch of 80.
        manifest["programs"]["predict"]["slots"].append([[0, 0, 1_000_000]])
        change_manifest(served, manifest)
        page = open_page(browser, served)
        load(page, way.backend, way.threads)
        name, message = failure(page, "await trainer.predict(new Float32Array(4 * 80));")
        assert name == "OutOfMemoryError", message
        assert "samples per batch" in message
        assert attempt(page, BATCH + "return (await trainer.trainBatch(x, y)).step;", GIVEN) == 1
        page.close()


def test_after_dispose_every_call_says_so(page: Page) -> None:
    done = attempt(
        page,
        BATCH
        + """
        const last = trainer.trainBatch(x, y);
        await Promise.all([trainer.dispose(), trainer.dispose()]);
        return (await last).step;""",
        GIVEN,
    )
    assert done == 1
    for call in ("trainBatch([0])", "predict([0])", "exportWeights()", "exportCheckpoint()"):
        name, message = failure(page, f"return trainer.{call};")
        assert (name, "disposed" in message) == ("BackendError", True)

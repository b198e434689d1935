"""The page in web/demo: a person presses Train, watches, stops, and takes the weights home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from hearth.bundle.safetensors import decode_safetensors
from tests.browser.pages import FIXTURE, ROOT, RUNTIME, site
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

TRAIN, TEST = 600, 90


@pytest.fixture
def served() -> Iterator[Site]:
    """The page with the fixture's bundle and data that a linear classifier can learn."""
    with site(isolated=True) as opened:
        for file in (ROOT / "web" / "demo").iterdir():
            opened.pages[f"/{file.name}"] = Reply(file.read_bytes())
        opened.pages["/bundle/hearth.js"] = Reply(RUNTIME.read_bytes())
        opened.pages |= data_pages()
        yield opened


def data_pages() -> dict[str, Reply]:
    random = np.random.default_rng(0)
    index: dict[str, object] = {"name": "points", "mean": 0.0, "std": 1.0}
    pages = {}
    for name, count in (("train", TRAIN), ("test", TEST)):
        y = random.integers(0, 3, count).astype(np.int32)
        x = random.normal(size=(count, 4)).astype(np.float32)
        x[np.arange(count), y] += 3
        index[name] = {"count": count, "x": f"{name}-x.bin", "y": f"{name}-y.bin"}
        pages[f"/data/{name}-x.bin"] = Reply(x.tobytes())
        pages[f"/data/{name}-y.bin"] = Reply(y.tobytes())
    return pages | {"/data/index.json": Reply(json.dumps(index).encode())}


@pytest.fixture
def page(browser: Browser, served: Site) -> Iterator[Page]:
    opened = browser.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(served.url + "index.html")
    opened.evaluate("hearthDemo.ready")
    yield opened
    opened.close()
    assert problems == []


def test_the_page_says_what_trains_and_where(page: Page) -> None:
    assert page.inner_text("#model") == "least squares"
    assert "600 samples" in page.inner_text("#data")
    assert "WebAssembly" in page.inner_text("#device")
    assert page.input_value("#rate") == "0.1"


def test_pressing_train_lets_the_loss_fall_and_the_weights_can_be_taken_home(page: Page) -> None:
    page.click("#train")
    page.wait_for_function("hearthDemo.state === 'ready' && hearthDemo.losses.length >= 50")
    losses = [loss for _, loss in page.evaluate("hearthDemo.losses")]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) / 3
    assert page.inner_text("#step") == "50"
    assert page.inner_text("#scoreName") == "Test loss"
    for button, suffix in (("#safetensors", ".safetensors"), ("#json", ".json")):
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename == f"least-squares{suffix}"
        data = Path(download.value.path()).read_bytes()
        if suffix == ".json":
            assert set(json.loads(data)["shapes"]) == {
                "linear_weight", "linear_bias", "batches_seen",
            }  # fmt: skip
        else:
            trained = decode_safetensors(data).tensors["linear.weight"]
            start = decode_safetensors((FIXTURE / "weights.safetensors").read_bytes())
            assert not np.array_equal(trained, start.tensors["linear.weight"])


def test_training_stops_when_a_person_says_so_and_goes_on(page: Page) -> None:
    page.fill("#epochs", "1000")
    page.click("#train")
    page.wait_for_function("hearthDemo.losses.length > 20")
    assert page.inner_text("#train") == "Stop"
    page.click("#train")
    page.wait_for_function("hearthDemo.state === 'ready'")
    steps = page.evaluate("hearthDemo.losses.length")
    assert steps < 10_000
    page.fill("#epochs", "1")
    page.click("#train")
    page.wait_for_function(f"hearthDemo.losses.length === {steps + 10}")


def test_a_driver_trains_through_the_hooks(page: Page) -> None:
    score, events = page.evaluate(
        """async () => {
          const events = [];
          for (const name of ["step", "epoch", "state"]) {
            addEventListener(`hearth:${name}`, ({ detail }) => events.push([name, detail]));
          }
          const options = { epochs: 2, batchSize: 100, learningRate: 0.05 };
          const score = await hearthDemo.train(options);
          return [score, events];
        }"""
    )
    assert score["loss"] == page.evaluate("hearthDemo.evaluate()")["loss"]
    names = [name for name, _ in events]
    assert (names.count("step"), names.count("epoch")) == (12, 2)
    assert events[0] == ["state", {"state": "training"}]


def test_a_bad_learning_rate_and_a_diverging_run_are_said_on_the_page(page: Page) -> None:
    page.fill("#rate", "-1")
    page.press("#rate", "Tab")
    assert "learning rate is -1" in page.inner_text("#error")
    page.fill("#rate", "1e38")
    page.click("#train")
    page.wait_for_function("document.getElementById('error').textContent.includes('the loss of')")
    page.wait_for_function("hearthDemo.state === 'ready'")
    assert page.is_enabled("#train")


def test_a_page_without_its_bundle_says_so(browser: Browser, served: Site) -> None:
    served.pages["/bundle/manifest.json"] = Reply(b"gone", 404)
    page = browser.new_page()
    page.goto(served.url + "index.html")
    page.wait_for_function("hearthDemo.state === 'failed'")
    assert "HTTP 404" in page.inner_text("#error")
    assert not page.is_enabled("#train")
    page.close()


def test_nothing_leaves_the_page_while_it_trains(page: Page, served: Site) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.click("#train")
    page.wait_for_function("hearthDemo.state === 'ready' && hearthDemo.losses.length >= 50")
    assert requests == []

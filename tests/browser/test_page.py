"""The page in web/page as a person uses it: train, pause, reload, choose data, take weights."""

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
from hearth.bundle.safetensors import decode_safetensors
from tests.browser.pages import FIXTURE, ROOT, RUNTIME, site
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

TRAIN, TEST = 600, 90
BUILT = ROOT / "web" / "page" / "dist"
AXE = ROOT / "web" / "page" / "node_modules" / "axe-core" / "axe.min.js"
WEIGHTS = "async () => [...await hearthPage.trainer.exportWeights()]"


@pytest.fixture
def served() -> Iterator[Site]:
    """The page with the fixture's bundle and data that a linear classifier can learn."""
    with site(isolated=True) as opened:
        serve_page(opened)
        yield opened


def serve_page(opened: Site) -> None:
    for file in BUILT.rglob("*"):
        if file.is_file():
            opened.pages[f"/{file.relative_to(BUILT)}"] = Reply(file.read_bytes())
    for module in RUNTIME.parent.glob("*.js"):
        opened.pages[f"/bundle/{module.name}"] = Reply(module.read_bytes())
    opened.pages |= data_pages()


def points(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    y = random.integers(0, 3, count).astype(np.int32)
    x = random.normal(size=(count, 4)).astype(np.float32)
    x[np.arange(count), y] += 3
    return x, y


def data_pages() -> dict[str, Reply]:
    random = np.random.default_rng(0)
    index: dict[str, object] = {"name": "points", "mean": 0.0, "std": 1.0}
    pages = {}
    for name, count in (("train", TRAIN), ("test", TEST)):
        x, y = points(random, count)
        index[name] = {"count": count, "x": f"{name}-x.bin", "y": f"{name}-y.bin"}
        pages[f"/data/{name}-x.bin"] = Reply(x.tobytes())
        pages[f"/data/{name}-y.bin"] = Reply(y.tobytes())
    return pages | {"/data/index.json": Reply(json.dumps(index).encode())}


def open_ready(browser: Browser, served: Site, **options: Any) -> Page:
    """The page with model and data, on one thread of the CPU: bits are compared here."""
    opened = browser.new_page(**options)
    opened.goto(served.url + "index.html?backend=wasm&threads=1")
    opened.wait_for_function("hearthPage.phase !== 'loading'")
    return opened


@pytest.fixture
def page(browser: Browser, served: Site) -> Iterator[Page]:
    opened = open_ready(browser, served)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def figure(page: Page, name: str) -> str:
    return page.inner_text(f"[data-figure={name}]")


def train(page: Page, epochs: int, batch: int = 60) -> None:
    page.fill("[name=epochs]", str(epochs))
    page.fill("[name=batch]", str(batch))
    page.press("[name=batch]", "Tab")
    press(page, "Train")


def wait_for(page: Page, phase: str, condition: str = "true") -> None:
    page.wait_for_function(f"hearthPage.phase === '{phase}' && ({condition})")


def test_the_page_says_what_trains_and_where(page: Page) -> None:
    assert page.inner_text("h1") == "least squares"
    assert "600 samples" in page.inner_text("[data-data]")
    assert "WebAssembly" in page.inner_text(".chip")
    assert page.input_value("[name=rate]") == "0.1"


def test_training_lets_the_loss_fall_and_the_weights_can_be_taken_home(page: Page) -> None:
    train(page, 5)
    wait_for(page, "ready", "hearthPage.trainer.step === 50")
    ends = page.evaluate("hearthPage.shown.loss.ends()")
    assert ends["last"] < ends["first"] / 3
    summary = page.get_by_role("img", name="Loss: training from").get_attribute("aria-label")
    assert "test from" in (summary or "")
    for button, suffix in (
        ("Weights (.safetensors)", ".safetensors"),
        ("Weights (.json)", ".json"),
        ("Checkpoint", ".checkpoint.safetensors"),
    ):
        with page.expect_download() as download:
            press(page, button)
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


def test_a_run_pauses_goes_on_stops_and_continues(page: Page) -> None:
    train(page, 2000)
    wait_for(page, "training", "hearthPage.trainer.step > 20")
    press(page, "Pause")
    wait_for(page, "paused")
    page.wait_for_timeout(300)
    step = page.evaluate("hearthPage.trainer.step")
    page.wait_for_timeout(300)
    assert page.evaluate("hearthPage.trainer.step") == step
    press(page, "Resume")
    wait_for(page, "training", f"hearthPage.trainer.step > {step + 20}")
    press(page, "Stop")
    wait_for(page, "ready")
    stopped = page.evaluate("hearthPage.trainer.step")
    press(page, "Continue")
    wait_for(page, "training", f"hearthPage.trainer.step > {stopped + 20}")
    press(page, "Stop")
    wait_for(page, "ready")


def test_the_learning_rate_moves_while_it_trains(page: Page) -> None:
    train(page, 5000)
    wait_for(page, "training", "hearthPage.trainer.step > 20")
    page.fill("[name=rate]", "0.025")
    page.press("[name=rate]", "Tab")
    page.wait_for_function("document.querySelector('[data-figure=rate]').textContent === '0.025'")
    page.locator("[name=rate-slider]").press("ArrowLeft")
    page.wait_for_function("hearthPage.shown.figures.learningRate < 0.025")
    press(page, "Stop")
    wait_for(page, "ready")


def test_a_reload_in_the_middle_ends_in_the_same_bits(
    browser: Browser, served: Site, page: Page
) -> None:
    page.select_option("[name=schedule]", "cosine")
    train(page, 300)
    wait_for(page, "ready", "hearthPage.trainer.step === 3000")
    whole = page.evaluate(WEIGHTS)
    again = open_ready(browser, served, storage_state=None)
    try:
        assert again.evaluate("hearthPage.trainer.step") == 0  # another profile
        again.select_option("[name=schedule]", "cosine")
        train(again, 300)
        wait_for(again, "training", "hearthPage.savedStep > 40")
        again.reload()
        again.wait_for_function("hearthPage.resumedStep > 40")
        assert "Continued at step" in again.inner_text("[data-saved]")
        wait_for(again, "ready", "hearthPage.trainer.step === 3000")
        assert again.evaluate(WEIGHTS) == whole
        assert not again.evaluate("hearthPage.shown.loss.isEmpty")
        press(again, "Start over")
        again.wait_for_function("hearthPage.trainer.step === 0")
        again.reload()
        again.wait_for_function("hearthPage.phase === 'ready'")
        assert again.evaluate("hearthPage.trainer.step") == 0
    finally:
        again.close()


def test_a_checkpoint_goes_out_and_comes_back(page: Page, tmp_path: Path) -> None:
    train(page, 1)
    wait_for(page, "ready", "hearthPage.trainer.step === 10")
    with page.expect_download() as download:
        press(page, "Checkpoint")
    file = tmp_path / "run.safetensors"
    download.value.save_as(file)
    press(page, "Start over")
    page.wait_for_function("hearthPage.trainer.step === 0")
    page.set_input_files("input[accept]", file)
    page.wait_for_function("hearthPage.trainer.step === 10")
    assert "continued a checkpoint at step 10" in page.inner_text(".log")
    file.write_bytes(b"no weights")
    page.set_input_files("input[accept]", file)
    page.wait_for_selector("[role=alert]")


def test_a_table_of_ones_own_trains(page: Page, tmp_path: Path) -> None:
    x, y = points(np.random.default_rng(1), 200)
    rows = [
        ",".join([*(f"{v:.4f}" for v in row), "abc"[label]])
        for row, label in zip(x, y, strict=True)
    ]
    file = tmp_path / "mine.csv"
    file.write_text("a,b,c,d,kind\n" + "\n".join(rows))
    page.set_input_files("[name=files]", file)
    page.wait_for_function("hearthPage.data.name === 'mine.csv'")
    assert "160 samples" in page.inner_text("[data-data]")
    train(page, 4, 16)
    wait_for(page, "ready", "hearthPage.trainer.step === 40")
    file.write_text("a,b\n1,2\n3,4\n")
    page.set_input_files("[name=files]", file)
    page.wait_for_selector("[role=alert]")
    assert "the model takes 4" in page.inner_text("[role=alert]")
    press(page, "The page's own")
    assert "points: 600 samples" in page.inner_text("[data-data]")


def test_a_bad_learning_rate_is_said_and_a_diverging_run_is_taken_back(page: Page) -> None:
    page.fill("[name=rate]", "-1")
    page.press("[name=rate]", "Tab")
    assert "learning rate is -1" in page.inner_text("[role=alert]")
    page.fill("[name=rate]", "1e38")
    page.press("[name=rate]", "Tab")
    train(page, 2)
    page.wait_for_selector(".log .bad")
    assert "Back to step" in page.inner_text(".log")
    wait_for(page, "ready")


def test_a_page_without_its_bundle_says_so(browser: Browser, served: Site) -> None:
    served.pages["/bundle/manifest.json"] = Reply(b"gone", 404)
    page = open_ready(browser, served)
    assert page.evaluate("hearthPage.phase") == "failed"
    assert "HTTP 404" in page.inner_text("[role=alert]")
    assert page.get_by_role("button", name="Train", exact=True).is_disabled()
    page.close()


def test_nothing_leaves_the_page_while_it_trains(page: Page) -> None:
    requests: list[tuple[str, str]] = []
    page.on("request", lambda request: requests.append((request.method, request.url)))
    train(page, 5)
    wait_for(page, "ready", "hearthPage.trainer.step === 50")
    tools = f"{page.url.split('index.html')[0]}bundle/hearth-tools.js"  # fetched at the first run
    assert set(requests) <= {("GET", tools)}
    requests.clear()
    train(page, 5)
    wait_for(page, "ready", "hearthPage.trainer.step === 100")
    assert requests == []


def test_cpu_and_gpu_are_compared_on_the_same_steps(page: Page) -> None:
    press(page, "Compare")
    rows = page.locator("section", has_text="CPU and GPU side by side").locator("tbody tr")
    page.wait_for_function("document.querySelectorAll('tbody tr').length === 2")
    each = "[...document.querySelectorAll('tbody tr')].every"
    page.wait_for_function(f"{each}((row) => Number(row.cells[3]?.innerText) >= 8)")
    press(page, "End")
    assert rows.nth(0).inner_text().startswith("CPU")
    assert rows.nth(1).inner_text().startswith("GPU")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_by_keyboard_and_on_a_phone(
    browser: Browser, served: Site, scheme: Any
) -> None:
    phone = {"width": 375, "height": 740}
    page = open_ready(browser, served, color_scheme=scheme, viewport=phone)
    page.fill("[name=epochs]", "1")
    page.get_by_role("button", name="Train", exact=True).focus()
    page.keyboard.press("Enter")
    wait_for(page, "ready", "hearthPage.trainer.step === 10")
    assert page.evaluate("document.documentElement.scrollWidth") <= phone["width"]
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("axe.run()")["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []
    page.close()


def test_the_inside_of_a_model_is_shown(browser: Browser, served: Site, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias[0] = -100  # a unit that never fires
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    example = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    hearth.compile(step, *example, backends=["wasm"], inspect=True).save(tmp_path / "bundle")
    served.add_folder("/bundle/", tmp_path / "bundle")
    page = open_ready(browser, served)
    page.check("[name=watch]")
    page.wait_for_selector("text=of 8 units never fire")
    train(page, 20)
    wait_for(page, "ready", "hearthPage.trainer.step === 200")
    names = page.locator("table.inside tbody th").all_inner_texts()
    assert names[:4] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    picture = page.get_by_role("img", name="gradient of 0.weight").first
    assert picture.locator("rect").count() > 8
    page.close()

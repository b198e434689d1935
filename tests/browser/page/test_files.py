"""What a person brings to the page and takes home: data, weights, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from hearth.bundle.safetensors import decode_safetensors
from tests.browser.page.person import WEIGHTS, open_ready, points, press, train, wait_for
from tests.browser.pages import FIXTURE
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

KEPT = "async () => (await (await import('/bundle/hearth-data.js')).listDatasets()).length"


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


def own_table(folder: Path) -> Path:
    """A table of 200 rows for the page's model."""
    x, y = points(np.random.default_rng(1), 200)
    rows = [
        ",".join([*(f"{v:.4f}" for v in row), "abc"[label]])
        for row, label in zip(x, y, strict=True)
    ]
    file = folder / "mine.csv"
    file.write_text("a,b,c,d,kind\n" + "\n".join(rows))
    return file


def bring(page: Page, file: Path) -> None:
    """Chooses a file as data, and waits until a reload would find it again."""
    page.set_input_files("[name=files]", file)
    page.wait_for_function(f"hearthPage.data.name === '{file.name}'")
    page.get_by_text("Keeping a copy").wait_for(state="detached")


def test_a_reload_goes_on_with_ones_own_data_bit_for_bit(
    browser: Browser, served: Site, page: Page, tmp_path: Path
) -> None:
    bring(page, own_table(tmp_path))
    train(page, 50, 16)
    wait_for(page, "ready", "hearthPage.trainer.step === 500")
    again = open_ready(browser, served)
    try:
        bring(again, own_table(tmp_path))
        train(again, 50, 16)
        wait_for(again, "training", "hearthPage.savedStep > 40")
        again.reload()
        again.wait_for_function("hearthPage.resumedStep > 40")
        assert again.evaluate("hearthPage.data.name") == "mine.csv"
        assert again.evaluate(KEPT) == 2
        assert "160 samples" in again.inner_text("[data-data]")
        wait_for(again, "ready", "hearthPage.trainer.step === 500")
        assert again.evaluate(WEIGHTS) == page.evaluate(WEIGHTS)
        press(again, "Built-in data")
        again.wait_for_function("hearthPage.data.name === 'points'")
        again.wait_for_function(f"({KEPT})().then((count) => count === 0)")
        again.reload()
        again.wait_for_function("hearthPage.phase === 'ready'")
        assert again.evaluate("hearthPage.data.name") == "points"
    finally:
        again.close()


def test_a_run_waits_for_ones_own_data_where_they_cannot_be_kept(
    page: Page, tmp_path: Path
) -> None:
    page.evaluate("""() => { const set = Storage.prototype.setItem;
        Storage.prototype.setItem = function (key, value) {
          if (key.endsWith(", data")) throw new DOMException("full", "QuotaExceededError");
          set.call(this, key, value); }; }""")
    bring(page, own_table(tmp_path))
    assert "a reload will forget these data" in page.inner_text(".log")
    train(page, 5000, 16)
    wait_for(page, "training", "hearthPage.savedStep > 10")
    page.reload()
    page.wait_for_selector("[role=alert]")
    assert "trained on mine.csv" in page.inner_text("[role=alert]")
    assert page.evaluate("hearthPage.phase") == "ready"  # not on the page's own data
    resumed = page.evaluate("hearthPage.trainer.step")
    bring(page, own_table(tmp_path))
    press(page, "Continue")
    wait_for(page, "training", f"hearthPage.trainer.step > {resumed} + 5")
    press(page, "Stop")
    wait_for(page, "ready")


def test_a_table_of_ones_own_trains(page: Page, tmp_path: Path) -> None:
    bring(page, own_table(tmp_path))
    assert "160 samples" in page.inner_text("[data-data]")
    train(page, 4, 16)
    wait_for(page, "ready", "hearthPage.trainer.step === 40")
    file = tmp_path / "mine.csv"
    file.write_text("a,b\n1,2\n3,4\n")
    page.set_input_files("[name=files]", file)
    page.wait_for_selector("[role=alert]")
    assert "the model takes 4" in page.inner_text("[role=alert]")
    press(page, "Built-in data")
    assert "points: 600 samples" in page.inner_text("[data-data]")

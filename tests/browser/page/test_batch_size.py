"""The page finds the batch size of a run, shows what it measured, and goes on with it."""

from __future__ import annotations

import json
import math

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.page.person import TRAIN, WEIGHTS, open_ready, press, train, wait_for
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

NAME = "page least squares"


def train_with_a_found_size(page: Page, epochs: int) -> None:
    page.select_option("[name=schedule]", "cosine")
    page.fill("[name=epochs]", str(epochs))
    page.check("[name=find-batch]")
    assert page.locator("[name=batch]").is_disabled()
    press(page, "Train")


def test_the_found_size_and_what_was_measured_are_shown(page: Page) -> None:
    train_with_a_found_size(page, 3)
    wait_for(page, "ready", "hearthPage.trainer.step > 0")
    size = page.evaluate("hearthPage.found.batchSize")
    assert 1 <= size <= TRAIN
    steps = 3 * math.ceil(TRAIN / size)
    assert page.evaluate("hearthPage.trainer.step") == steps
    cosine = 0.1 * (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
    assert page.evaluate("hearthPage.shown.figures.learningRate") == pytest.approx(cosine)
    assert page.evaluate("hearthPage.progress") == 1
    assert f"batches of {size} train fastest here" in page.inner_text(".log")
    page.click("[data-found] summary")
    rows = page.locator("[data-found] tbody tr")
    assert rows.count() == len(page.evaluate("Object.keys(hearthPage.found.stepMs)")) > 1
    assert rows.locator("xpath=self::tr[@class='chosen']").locator("th").inner_text() == str(size)
    assert "ms" in rows.first.inner_text()


def test_a_reload_goes_on_with_the_found_size_bit_for_bit(
    browser: Browser, served: Site, page: Page
) -> None:
    train_with_a_found_size(page, 100)
    wait_for(page, "training", "hearthPage.savedStep > 10")
    page.reload()
    page.wait_for_function("hearthPage.resumedStep > 10")
    size = page.evaluate("hearthPage.found.batchSize")
    steps = 100 * math.ceil(TRAIN / size)
    wait_for(page, "ready", f"hearthPage.trainer.step === {steps}")
    assert page.evaluate("hearthPage.found.batchSize") == size
    given = open_ready(browser, served)
    given.select_option("[name=schedule]", "cosine")
    train(given, 100, size)
    wait_for(given, "ready", f"hearthPage.trainer.step === {steps}")
    assert given.evaluate(WEIGHTS) == page.evaluate(WEIGHTS)
    given.close()


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        (
            # As the page kept them before it could find a batch size.
            {
                "epochs": 7, "batchSize": 32, "learningRate": 0.05, "shape": "cosine", "seed": 3,
                "running": False, "unfinished": True,
            },
            ["7", "32", "0.05", "cosine", "3", "Continue"],
        ),
        ({"epochs": "many", "shape": "unheard of"}, ["5", "64", "0.001", "constant", "1", "Train"]),
        (None, ["5", "64", "0.1", "constant", "1", "Train"]),
    ],
    ids=["older", "damaged", "empty"],
)  # fmt: skip
def test_settings_of_another_version_are_read(page: Page, kept: object, shown: list[str]) -> None:
    train(page, 1)
    wait_for(page, "ready", "hearthPage.trainer.step === 10")
    page.evaluate("([name, text]) => localStorage.setItem(name, text)", [NAME, json.dumps(kept)])
    page.reload()
    page.wait_for_function("hearthPage.resumedStep === 10")
    fields = ["epochs", "batch", "rate", "schedule", "seed"]
    assert [page.input_value(f"[name={name}]") for name in fields] == shown[:-1]
    assert page.inner_text("button.primary") == shown[-1]
    assert not page.is_checked("[name=find-batch]")
    assert page.locator("[role=alert]").count() == 0

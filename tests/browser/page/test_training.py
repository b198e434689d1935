"""The page as a person trains on it: loss, pause, rate, what goes wrong."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.page.person import open_ready, press, train, wait_for
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium


def test_the_page_says_what_trains_and_where(page: Page) -> None:
    assert page.inner_text("h1") == "least squares"
    assert "600 samples" in page.inner_text("[data-data]")
    assert "WebAssembly" in page.inner_text(".chip")
    assert page.input_value("[name=rate]") == "0.1"


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
    assert page.locator(".chip").count() == 0  # it looks for no device any more
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

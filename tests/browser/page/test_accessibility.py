"""The page by keyboard, on a phone, and before a checker of accessibility, in light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hearth.bundle.safetensors import decode_safetensors
from tests.browser.page.person import open_ready, train, wait_for
from tests.browser.pages import ROOT
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

AXE = ROOT / "web" / "page" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 390, "height": 844}
MOST_TABS = 60
FOCUSED = """
() => {
  const { activeElement: at } = document, label = at.closest("label");
  const style = getComputedStyle(at.matches(".button input") ? at.parentElement : at);
  return {
    name: at === document.body ? ""
      : at.getAttribute("aria-label") ?? (label ?? at).innerText.trim(),
    ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
  };
}
"""
# The controls that are cut off at the sides, covered by something else, or too small for a finger.
UNREACHABLE = """
() => [...document.querySelectorAll("button, input, select, summary")].flatMap((control) => {
  const shown = control.matches(".button input") ? control.parentElement : control;
  shown.scrollIntoView({ block: "center" });
  const { left, right, top, bottom, height } = shown.getBoundingClientRect();
  const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  const reached = hit && (shown.contains(hit) || hit.closest("label")?.contains(shown));
  const small = height < 24 && !shown.closest("label");
  return reached && !small && left >= 0 && right <= innerWidth ? []
    : [control.name || control.innerText];
})
"""


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until a control of that name has the focus, which can be seen at every stop."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        assert focused["ring"] or not focused["name"], f"no focus ring on {focused['name']}"
        if focused["name"].startswith(name):
            return
    raise AssertionError(f"no control {name!r} is reached by {MOST_TABS} tabs")


def test_a_run_needs_no_mouse(page: Page) -> None:
    tab_to(page, "Epochs")
    page.keyboard.type("5000")
    tab_to(page, "Train")  # around the whole page
    page.keyboard.press("Enter")
    wait_for(page, "training", "hearthPage.trainer.step > 5")
    page.keyboard.press("Space")  # the same button pauses
    wait_for(page, "paused")
    tab_to(page, "Learning rate")
    page.keyboard.type("0.025")  # a field that is tabbed to is selected
    page.keyboard.press("Tab")
    page.wait_for_function("hearthPage.settings.learningRate === 0.025")
    tab_to(page, "Resume")
    page.keyboard.press("Space")
    page.wait_for_function("hearthPage.shown.figures.learningRate === 0.025")
    tab_to(page, "Stop")
    page.keyboard.press("Enter")
    wait_for(page, "ready")
    tab_to(page, "Weights (.safetensors)")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    weights = decode_safetensors(Path(download.value.path()).read_bytes()).tensors
    assert "linear.weight" in weights


def test_a_phone_shows_everything_and_never_scrolls_sideways(
    browser: Browser, served: Site
) -> None:
    page = open_ready(browser, served, viewport=PHONE, has_touch=True)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) <= PHONE["width"]
    page.check("[name=find-batch]")
    page.get_by_role("button", name="Train", exact=True).tap()
    wait_for(page, "ready", "hearthPage.trainer.step > 0")
    page.locator("[data-found] summary").tap()
    page.get_by_role("button", name="Compare", exact=True).tap()
    page.wait_for_function("document.querySelectorAll('.compare tbody tr').length === 2")
    page.get_by_role("button", name="End", exact=True).tap()
    page.evaluate("hearthPage.fail(new Error('a-word-'.repeat(30)))")
    assert page.evaluate(width) <= PHONE["width"]
    page.get_by_role("button", name="Dismiss", exact=True).tap()
    page.wait_for_function("!document.querySelector('[role=alert]')")
    assert page.evaluate(UNREACHABLE) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_checker_finds_nothing_in_any_state(
    browser: Browser, served: Site, scheme: Any
) -> None:
    page = open_ready(browser, served, color_scheme=scheme)
    page.add_script_tag(path=str(AXE))
    assert_accessible(page)
    train(page, 10_000)
    wait_for(page, "training", "hearthPage.trainer.step > 20")
    page.get_by_role("button", name="Pause", exact=True).click()
    wait_for(page, "paused")
    assert_accessible(page)
    page.evaluate("hearthPage.fail(new Error('something went wrong'))")
    assert_accessible(page)
    page.close()


def assert_accessible(page: Page) -> None:
    found = page.evaluate("axe.run()")["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []

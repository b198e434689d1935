"""The page by keyboard, on a phone, in light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.page.person import open_ready, wait_for
from tests.browser.pages import ROOT
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium


AXE = ROOT / "web" / "page" / "node_modules" / "axe-core" / "axe.min.js"


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

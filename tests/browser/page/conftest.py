"""The page in web/page, served with the fixture's bundle and data that it can learn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.page.person import open_ready, serve_page
from tests.browser.pages import site
from tests.browser.site_server import Site


@pytest.fixture
def served() -> Iterator[Site]:
    """The page with the fixture's bundle and data that a linear classifier can learn."""
    with site(isolated=True) as opened:
        serve_page(opened)
        yield opened


@pytest.fixture
def page(browser: Browser, served: Site) -> Iterator[Page]:
    opened = open_ready(browser, served)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []

"""One Chromium for all tests here, and pages with a trainer on each way to compute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.browser.pages import WAYS, Way, chromium, load, open_page, site
from tests.browser.site_server import Site


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with chromium(playwright) as opened:
        yield opened


@pytest.fixture
def served() -> Iterator[Site]:
    with site(isolated=False) as opened:
        yield opened


@pytest.fixture
def bare_page(browser: Browser, served: Site) -> Iterator[Page]:
    """A page of the site with the runtime, and no trainer yet."""
    opened = open_page(browser, served)
    yield opened
    opened.close()


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen


@pytest.fixture
def page(browser: Browser, way: Way) -> Iterator[Page]:
    """A page with a trainer on the backend that the test asks for."""
    with site(isolated=way.isolated) as served:
        opened = open_page(browser, served)
        load(opened, way.backend, way.threads)
        yield opened
        opened.close()

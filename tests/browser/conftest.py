"""One Chromium for all tests here, and pages with a trainer on each way to compute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from hearth.runtime.browser import find_browser, launch_flags
from tests.browser.pages import ROOT, WAYS, Way, chromium, load, open_page, site
from tests.browser.site_server import Reply, Site


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


@pytest.fixture(scope="module")
def data_site() -> Iterator[Site]:
    with site(isolated=False) as opened:
        data = ROOT / "web" / "runtime" / "dist" / "hearth-data.js"
        opened.pages["/hearth-data.js"] = Reply(data.read_bytes())
        yield opened


@pytest.fixture(scope="module")
def data_context(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """A person's own browser, with a camera: Chromium's own, which needs no permission."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path_factory.mktemp("profile"),
        executable_path=find_browser(playwright.chromium.executable_path),
        headless=False,
        args=[
            "--headless=new",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            *launch_flags("wasm", software_gpu=True),
        ],
    )
    yield context
    context.close()


@pytest.fixture
def data_page(data_context: BrowserContext, data_site: Site) -> Iterator[Page]:
    """A page of a site with hearth-data.js too, in a browser that keeps what is stored."""
    opened = data_context.new_page()
    opened.goto(data_site.url + "index.html")
    opened.wait_for_function("document.title === 'ready'")
    yield opened
    opened.close()

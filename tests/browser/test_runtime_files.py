"""hearth.js loads hearth-tools.js when it first needs it, wherever the two come from."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.pages import BATCH, GIVEN, attempt, failure, load, open_page, site
from tests.browser.site_server import Site

TOOLS = "hearth-tools.js"

# Uses the tools in the worker and on the page.
USED = (
    BATCH
    + """
    const runtime = await import(given.runtime);
    const trainer = await runtime.Trainer.load(given.bundle, { backend: "wasm" });
    await trainer.trainBatch(x, y);
    const before = await trainer.predict(x);
    const run = await trainer.exportCheckpoint();
    await trainer.trainBatch(x, y);
    await trainer.loadCheckpoint(run);
    const after = await trainer.predict(x);
    const { batchSize } = await trainer.bestBatchSize(x, y, { limit: 4 });
    const refused = await runtime.findLearningRate(trainer, [{ x, y }], { from: -1 })
      .catch((error) => error instanceof runtime.InvalidInputError);
    const bad = [{ x: x.map(() => 1e38), y }];
    const broke = [];
    try {
      for await (const event of trainer.fit(bad, { recovery: { attempts: 1 } })) broke.push(event);
    } catch (error) {
      broke.push(error instanceof runtime.NumericalInstabilityError);
    }
    await trainer.dispose();
    return { same: before.every((v, i) => Object.is(v, after[i])), batchSize, refused,
             recovered: broke.at(-1) === true || broke.some(({ kind }) => kind === "recovery") };"""
)


@pytest.mark.parametrize("query", ["", "?v=2"], ids=["plain", "with a version"])
def test_the_tools_belong_to_the_very_runtime_that_loads_them(
    browser: Browser, served: Site, query: str
) -> None:
    page = open_page(browser, served)
    given = GIVEN | {"runtime": f"/hearth.js{query}", "bundle": "/bundle/"}
    used = attempt(page, USED, given)
    assert (used["same"], used["refused"], used["recovered"]) == (True, True, True)
    assert 1 <= used["batchSize"] <= 4
    page.close()


def test_the_tools_come_from_the_origin_of_the_runtime(browser: Browser, served: Site) -> None:
    with site(isolated=False) as other:
        del served.pages[f"/{TOOLS}"]
        page = open_page(browser, served)
        given = GIVEN | {"runtime": other.url + "hearth.js", "bundle": other.url + "bundle/"}
        used = attempt(page, USED, given)
        assert (used["same"], used["refused"], used["recovered"]) == (True, True, True)
        page.close()


def test_a_page_that_only_trains_does_not_fetch_the_tools(bare_page: Page) -> None:
    fetched: list[str] = []
    bare_page.context.on("request", lambda request: fetched.append(request.url))
    load(bare_page)
    attempt(bare_page, BATCH + "return trainer.trainBatch(x, y);", GIVEN)
    assert any(url.endswith("weights.safetensors") for url in fetched)
    assert not any(TOOLS in url for url in fetched)
    attempt(bare_page, "await trainer.exportCheckpoint();")
    assert any(TOOLS in url for url in fetched)


def test_a_bundle_without_the_tools_trains_and_says_what_is_missing(
    browser: Browser, served: Site
) -> None:
    del served.pages[f"/{TOOLS}"]
    page = open_page(browser, served)
    load(page)
    name, message = failure(page, "return trainer.exportCheckpoint();")
    assert (name, TOOLS in message) == ("BundleFormatError", True)
    trained = attempt(page, BATCH + "return trainer.trainBatch(x, y);", GIVEN)
    assert trained["step"] == 1
    page.close()

"""Data sets that stay in a real Chromium: after a reload, and where there is no room."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.pages import READ, attempt, failure
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium


@pytest.fixture
def page(data_page: Page) -> Page:
    return data_page


@pytest.mark.parametrize("without", ["", "delete FileSystemFileHandle.prototype.createWritable;"])
def test_a_kept_data_set_is_there_after_a_reload_and_trains_the_same(
    page: Page, without: str
) -> None:
    setting = (
        READ
        + without
        + """
        const x = Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i));
        const y = Int32Array.from({ length: 1000 }, (_, i) => i % 3);
        const made = new hearth.ArrayDataset({ x, y, samples: 1000 });
        const losses = async (dataset) => {
          const trainer = await Trainer.load("/bundle/", { backend: "wasm", threads: 1 });
          const loader = new hearth.DataLoader(dataset, { batchSize: 32, shuffle: true, seed: 1 });
          for await (const event of trainer.fit(loader, { epochs: 2 }));
          return [...trainer.history.losses];
        };"""
    )
    attempt(page, setting + 'await data.keepDataset("points", made, { about: { from: "me" } });')
    page.reload()
    page.wait_for_function("document.title === 'ready'")
    kept, plain, about, kind = attempt(
        page,
        setting
        + """
        const kept = await data.openDataset("points");
        const answer = [await losses(kept), await losses(made), kept.about,
          (await hearth.openStore()).kind];
        await data.removeDataset("points");
        return answer;""",
    )
    assert len(kept) == 64
    assert kept == plain
    assert about == {"from": "me"}
    assert kind == ("IndexedDB" if without else "the origin's private files")
    assert attempt(page, READ + "return data.listDatasets()") == []


def test_a_data_set_that_finds_no_room_leaves_the_old_one(page: Page, data_site: Site) -> None:
    keep = (
        READ
        + """
        const make = (n) => new hearth.ArrayDataset({ x: new Float32Array(n * 1000).fill(n),
          samples: n });
        await data.keepDataset("set", make(given));"""
    )
    attempt(page, keep, 10)
    session = page.context.new_cdp_session(page)
    quota = {"origin": data_site.url.rstrip("/"), "quotaSize": 1_000_000}
    session.send("Storage.overrideQuotaForOrigin", quota)
    name, message = failure(page, keep, 5000)
    session.send("Storage.overrideQuotaForOrigin", {"origin": quota["origin"]})
    assert name == "StorageError"
    assert "no room" in message
    first, files = attempt(
        page,
        READ
        + """
        const { x } = await (await data.openDataset("set")).batch(Uint32Array.of(9));
        const files = (await (await hearth.openStore()).names()).filter((n) => /^set/.test(n));
        return [x[0], files.length];""",
    )
    assert (first, files) == (10, 2)


def test_files_can_be_listed_while_others_go(page: Page) -> None:
    """A checkpoint may give way to the next while data sets are looked for."""
    files = attempt(
        page,
        READ
        + """
        const store = await hearth.openStore();
        const names = Array.from({ length: 40 }, (_, i) => `passing ${i}`);
        for (let turn = 0; turn < 5; turn++) {
          for (const name of names) await store.write(name, new Uint8Array(10));
          const listed = [];
          for (const name of names) {
            listed.push(store.names());
            await store.remove(name);
          }
          await Promise.all(listed);
        }
        return store.names();""",
    )
    assert not any(name.startswith("passing") for name in files)

"""Runs that outlive their page: saved in a real Chromium, resumed after a reload or a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, Page, Playwright

from hearth import load_checkpoint
from hearth.runtime.browser import find_browser, launch_flags
from tests.browser.pages import attempt, failure, site
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

STORES = ("the origin's private files", "IndexedDB", "localStorage")
# Takes away what a store needs, so that the next one is chosen.
WITHOUT = {
    STORES[0]: "",
    STORES[1]: "delete FileSystemFileHandle.prototype.createWritable;",
    STORES[2]: "delete FileSystemFileHandle.prototype.createWritable; delete window.indexedDB;"
    " Object.defineProperty(window, 'indexedDB', { value: undefined });",
}
LOADER = """
const x = Float32Array.from({ length: 400 }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: 100 }, (_, i) => i % 3);
const dataset = new hearth.ArrayDataset({ x, y, samples: 100 });
const loader = new hearth.DataLoader(dataset, { batchSize: 7, shuffle: true, seed: 4 });
const load = () => Trainer.load("/bundle/", { backend: given.backend ?? "wasm", threads: 1 });
const train = async (trainer, options) => {
  const schedule = (step) => 0.2 / (2 + step);
  for await (const event of trainer.fit(loader, { epochs: 8, schedule, ...options })) {
    if (options.until && trainer.step >= options.until) break;
  }
};
"""


@pytest.fixture
def served() -> Iterator[Site]:
    with site(isolated=True) as opened:
        yield opened


@pytest.fixture
def context(playwright: Playwright, tmp_path: Path) -> Iterator[BrowserContext]:
    """A person's own browser: its storage is on the disk."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path / "profile",
        executable_path=find_browser(playwright.chromium.executable_path),
        headless=False,
        args=["--headless=new", *launch_flags("webgpu", software_gpu=True)],
    )
    yield context
    context.close()


def open_in(context: BrowserContext, served: Site, before: str = "") -> Page:
    page = context.new_page()
    if before:
        page.add_init_script(before)
    page.goto(served.url + "index.html")
    page.wait_for_function("document.title === 'ready'")
    return page


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
@pytest.mark.parametrize("store", STORES)
def test_a_run_goes_on_after_a_reload_with_the_same_bits(
    context: BrowserContext, served: Site, store: str, backend: str, tmp_path: Path
) -> None:
    page = open_in(context, served, WITHOUT[store])
    given = {"backend": backend}
    kind = attempt(
        page,
        LOADER
        + """
        const trainer = await load();
        const callbacks = [hearth.saving("my run", { everySteps: 4 })];
        await train(trainer, { callbacks, until: 40 });
        return (await hearth.openStore()).kind;""",
        given,
    )
    assert kind == store
    page.reload()
    page.wait_for_function("document.title === 'ready'")
    resumed_at, resumed, whole = attempt(
        page,
        LOADER
        + """
        const again = await Trainer.resume("my run", { backend: given.backend, threads: 1 });
        const { step } = again;
        await train(again, { from: again.cursor });
        const whole = await load();
        await train(whole, {});
        return [step, [...await again.exportCheckpoint()], [...await whole.exportCheckpoint()]];""",
        given,
    )
    assert 0 < resumed_at < 8 * 15
    assert resumed == whole
    file = tmp_path / "run.safetensors"
    file.write_bytes(bytes(resumed))
    assert load_checkpoint(file).step == 8 * 15


@pytest.mark.parametrize("store", STORES[:2])
def test_a_tab_killed_while_it_saves_loses_the_newest_checkpoint_at_most(
    context: BrowserContext, served: Site, store: str
) -> None:
    saving = """
        const trainer = await load();
        const big = new Uint8Array(30_000_000);
        const store = await hearth.openStore();
        await trainer.saveCheckpoint("run");
        await store.write("run.1.safetensors", await trainer.exportCheckpoint());
        setInterval(() => store.write("run.2.safetensors", big), 1); // nothing that could be read
        return 1;"""
    page = open_in(context, served, WITHOUT[store])
    attempt(page, LOADER + saving, {})
    page.wait_for_timeout(20)
    crash(page)
    page = open_in(context, served, WITHOUT[store])
    step, saved = attempt(
        page,
        LOADER
        + """
        const again = await Trainer.resume("run", { backend: "wasm", threads: 1 });
        await again.saveCheckpoint("run");
        return [again.step, await Trainer.checkpoints()];""",
        {},
    )
    assert step == 0
    assert saved[0]["number"] in (2, 3)


@pytest.mark.parametrize("store", STORES[:2])
def test_a_tab_killed_while_it_replaces_and_removes_leaves_what_can_be_read(
    context: BrowserContext, served: Site, store: str
) -> None:
    replacing = """
        const trainer = await load();
        await trainer.saveCheckpoint("run", { keep: 1 });
        const forEver = async (work) => { for (;;) await work(); };
        void forEver(() => trainer.saveCheckpoint("run", { keep: 1 }));
        void forEver(async () => {
          await trainer.saveCheckpoint("other");
          await Trainer.removeCheckpoints("other");
        });
        return 1;"""
    for wait_ms in (15, 40):
        page = open_in(context, served, WITHOUT[store])
        attempt(page, LOADER + replacing, {})
        page.wait_for_timeout(wait_ms)
        crash(page)
    page = open_in(context, served, WITHOUT[store])
    names, step = attempt(
        page,
        LOADER
        + """
        const saved = await Trainer.checkpoints();
        const names = [...new Set(saved.map(({ name }) => name))];
        const opened = [];
        for (const name of names) {
          opened.push(await Trainer.resume(name, { backend: "wasm", threads: 1 }));
        }
        await Trainer.removeCheckpoints("run");
        return [names, opened.map(({ step }) => step)];""",
        {},
    )
    assert "run" in names
    assert set(step) == {0}


def test_running_out_of_quota_is_an_error_that_keeps_what_was_saved(
    context: BrowserContext, served: Site
) -> None:
    page = open_in(context, served)
    attempt(page, LOADER + 'const t = await load(); await t.saveCheckpoint("run"); return 1;', {})
    session = context.new_cdp_session(page)
    quota = {"origin": served.url.rstrip("/"), "quotaSize": 4096}
    session.send("Storage.overrideQuotaForOrigin", quota)
    name, message = failure(
        page,
        LOADER
        + """
        const trainer = await Trainer.resume("run", { backend: "wasm", threads: 1 });
        globalThis.trainer = trainer;
        for (let i = 0; i < 5e6; i++) trainer.history.losses.push(1); // a long history: 20 MB
        await trainer.saveCheckpoint("run");""",
        {},
    )
    assert name == "StorageError"
    assert "no room" in message
    assert "still there" in message
    step = attempt(
        page,
        """
        trainer.history.losses.length = 0;
        const again = await Trainer.resume("run", { backend: "wasm", threads: 1 });
        const x = new Float32Array(40), y = new Int32Array(10);
        await again.trainBatch(x, y);
        return [again.step, (await Trainer.checkpoints()).length];""",
    )
    assert step == [1, 1]


def crash(page: Page) -> None:
    """Kills the renderer of a page, as the system does when memory runs out."""
    with page.expect_event("crash"), suppress(Error):
        page.goto("chrome://crash")

"""One Chromium for all peers of a run, and a page of it as a `Session`.

A page is bench/pages/NAME.ts, bundled by esbuild, in a tab of its own on a server of its own, with
the headers that threads need.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from playwright.sync_api import Page, Request, sync_playwright

from bench.prepare import BUILD, CHECKED_STEPS, ROOT, Case
from hearth.runtime.browser import find_browser, has_gpu, launch_flags
from hearth.serve import Server, find

HERE: Final = ROOT / "bench"
MODULES: Final = HERE / "node_modules"
PAGES: Final = BUILD / "pages"
LOAD_TIMEOUT_S: Final = 110
# Otherwise a process that was started ahead becomes the next tab's, and we could not tell whose.
NO_SPARE: Final = "--disable-features=SpareRendererForSitePerProcess"
DATA: Final = ("/data.json", "/data.bin", "/index.html")
WEIGHTS: Final = ("weights.safetensors", "golden.safetensors", "checkpoint")


class Rig:
    """A headless Chromium with WebGPU, in software where the machine has no GPU."""

    def __enter__(self) -> Self:
        self._closing = ExitStack()
        playwright = self._closing.enter_context(sync_playwright())
        executable = find_browser(playwright.chromium.executable_path)
        flags = launch_flags("webgpu", software_gpu=not has_gpu())
        # `headless` would choose Playwright's own headless shell, which has no WebGPU.
        self.browser = playwright.chromium.launch(
            executable_path=executable, headless=False, args=["--headless=new", *flags, NO_SPARE]
        )
        self._closing.callback(self.browser.close)
        self._processes = self.browser.new_browser_cdp_session()
        with Server({"/index.html": b"<!doctype html>"}) as server:
            _, process = self.open_page(f"{server.url}index.html")
        self.empty_bytes = private_bytes(process)
        return self

    def open_page(
        self, url: str, on_request: Callable[[Request], None] | None = None
    ) -> tuple[Page, int | None]:
        """A new tab on `url`, and the process that computes it, where that can be told."""
        page = self.browser.new_page()
        if on_request is not None:
            page.on("request", on_request)
        page.set_default_timeout(LOAD_TIMEOUT_S * 1000)
        before = self._renderers()
        page.goto(url, wait_until="commit")
        started = self._renderers() - before
        return page, started.pop() if len(started) == 1 else None

    def _renderers(self) -> set[int]:
        found = self._processes.send("SystemInfo.getProcessInfo")["processInfo"]
        return {process["id"] for process in found if process["type"] == "renderer"}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._closing.close()


class PageSession:
    """A session in a tab: the page `name` on a case, with options of the peer."""

    def __init__(self, rig: Rig, case: Case, name: str, options: dict[str, Any],
                 folders: dict[str, Path]) -> None:  # fmt: skip
        build_pages()
        self._requested: set[str] = set()
        self._routes: dict[str, Path | bytes] = {
            "/index.html": _html(name), "/pages/": PAGES, **folders,
            "/data.json": case.folder / "data.json", "/data.bin": case.folder / "data.bin",
        }  # fmt: skip
        self._closing = ExitStack()
        server = self._closing.enter_context(Server(self._routes))
        spec = {"workload": case.workload.name, "rows": case.rows, **options}
        url = f"{server.url}index.html?{quote(json.dumps(spec))}"
        self._page, self._process = rig.open_page(url, self._count)
        self._empty_bytes = rig.empty_bytes
        self._closing.callback(self._page.close)
        try:
            self._page.wait_for_function("globalThis.bench", timeout=LOAD_TIMEOUT_S * 1000)
            problem = self._page.evaluate("bench.problem")
        except BaseException:
            self.close()
            raise
        if problem:
            self.close()
            raise RuntimeError(problem)

    def losses(self) -> list[float]:
        found: list[float] = self._page.evaluate("n => bench.losses(n)", CHECKED_STEPS)
        return found

    def times_ms(self, seconds: float) -> list[float]:
        found: list[float] = self._page.evaluate("s => bench.times(s)", seconds)
        return found

    def predictions_ms(self, seconds: float) -> list[float]:
        found: list[float] = self._page.evaluate("s => bench.predictions(s)", seconds)
        return found

    def live(self, seconds: float) -> dict[str, Any]:
        """The times of predictions while training goes on, and the steps it took."""
        found: dict[str, Any] = self._page.evaluate(
            "s => bench.predictionsWhileTraining(s)", seconds
        )
        return found

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = self._page.evaluate("bench.facts()")
        self._page.context.new_cdp_session(self._page).send("HeapProfiler.collectGarbage")
        memory, empty = private_bytes(self._process), self._empty_bytes
        if memory is not None and empty is not None:
            found["memory_bytes"] = memory - empty
        return {**found, "code_bytes": self._code_bytes()}

    def close(self) -> None:
        self._closing.close()

    def _count(self, request: Request) -> None:
        self._requested.add(request.url.partition("/")[2].partition("/")[2].partition("/")[2])

    def _code_bytes(self) -> int:
        """What the page loaded besides weights and data, each file through gzip."""
        total = 0
        for name in sorted(self._requested):
            path = f"/{name.partition('?')[0]}"
            found = None if path in DATA else find(self._routes, path)
            if isinstance(found, Path) and found.name not in WEIGHTS:
                total += len(gzip.compress(found.read_bytes(), 9))
        return total


def private_bytes(process: int | None) -> int | None:
    """Memory that a process shares with no other: JavaScript, WebAssembly, code; only on Linux."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return None
    fields = [line.split() for line in text.splitlines()[1:]]
    return 1024 * sum(int(f[1]) for f in fields if f[0] in ("Private_Clean:", "Private_Dirty:"))


def _html(name: str) -> bytes:
    script = f'<script type="module" src="/pages/{name}.js"></script>'
    return f'<!doctype html><meta charset="utf-8">{script}'.encode()


@cache
def build_pages() -> None:
    """Installs the packages of bench/package-lock.json once, and bundles the pages."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("the peers in the browser are npm packages: install Node 20 or newer")
    locked = (HERE / "package-lock.json").read_bytes()
    stamp = MODULES / "installed-lock.json"
    if not stamp.is_file() or stamp.read_bytes() != locked:
        command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=HERE, check=True)
        stamp.write_bytes(locked)
    subprocess.run([npm, "run", "--silent", "build"], cwd=HERE, check=True)

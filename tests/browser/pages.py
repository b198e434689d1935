"""A page in a headless Chromium with the runtime loaded, and calls into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from playwright.sync_api import Browser, Page, Playwright

from hearth.runtime.browser import find_browser, launch_flags
from tests.browser.site_server import Reply, Site

ROOT: Final = Path(__file__).resolve().parents[2]
FIXTURE: Final = ROOT / "spec" / "fixtures" / "least_squares"
RUNTIME: Final = ROOT / "web" / "runtime" / "dist" / "hearth.js"
READ: Final = "const data = await import('/hearth-data.js');"
_HTML: Final = b"""<!doctype html><meta charset="utf-8"><title>loading</title>
<script type="module">
import * as hearth from "/hearth.js";
globalThis.hearth = hearth;
const Awaiting = Object.getPrototypeOf(async () => {}).constructor;
// Runs a function body with the module and the page's trainer; errors come back as data.
globalThis.attempt = async (body, given) => {
  try {
    const value = await new Awaiting("hearth", "Trainer", "given", body)(
      hearth, hearth.Trainer, given);
    return { value: value ?? null };
  } catch (error) {
    const known = error instanceof hearth.HearthError;
    return { error: { name: known ? error.name : "foreign", message: String(error.message) } };
  }
};
document.title = "ready";
</script>"""


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    backend: str
    isolated: bool
    threads: int


WAYS = (
    Way("wasm", "wasm", False, 1),
    Way("threads", "wasm", True, 2),
    Way("webgpu", "webgpu", False, 1),
)


RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(13, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, size=13)
Y[4] = -100
GIVEN = {"x": X.ravel().tolist(), "y": Y.tolist()}
BATCH = "const x = Float32Array.from(given.x), y = Int32Array.from(given.y);"


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """A headless Chromium with WebGPU on a software adapter."""
    browser = playwright.chromium.launch(
        executable_path=find_browser(playwright.chromium.executable_path),
        headless=False,
        args=["--headless=new", *launch_flags("webgpu", software_gpu=True)],
    )
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def site(*, isolated: bool) -> Iterator[Site]:
    """A site with the runtime and the fixture under `/bundle/`."""
    if not RUNTIME.exists():
        raise FileNotFoundError(f"{RUNTIME}: run `npm ci && npm run build` in web/runtime")
    served = Site({"/index.html": Reply(_HTML)}, isolated=isolated)
    for module in RUNTIME.parent.glob("*.js"):
        served.pages[f"/{module.name}"] = Reply(module.read_bytes())
    served.add_folder("/bundle/", FIXTURE)
    try:
        yield served
    finally:
        served.close()


def open_page(browser: Browser, served: Site) -> Page:
    """A fresh page of the site, with the runtime imported."""
    page = browser.new_page()
    page.goto(served.url + "index.html")
    page.wait_for_function("document.title === 'ready'")
    return page


def attempt(page: Page, body: str, given: Any = None) -> Any:
    """What a function body returns, or fails the test with the error that it raised."""
    answer = page.evaluate("([body, given]) => attempt(body, given)", [body, given])
    assert "error" not in answer, answer["error"]
    return answer["value"]


def failure(page: Page, body: str, given: Any = None) -> tuple[str, str]:
    """Class and message of the error that a function body raises."""
    answer = page.evaluate("([body, given]) => attempt(body, given)", [body, given])
    assert "error" in answer, f"no error: {answer}"
    return answer["error"]["name"], answer["error"]["message"]


def replace_file(served: Site, name: str, body: bytes) -> None:
    """Puts another file into the bundle and into its manifest, so that only its content is bad."""
    manifest = json.loads(served.pages["/bundle/manifest.json"].body)
    manifest["files"][name] = file_entry(body)
    served.pages["/bundle/manifest.json"] = Reply(json.dumps(manifest).encode())
    served.pages[f"/bundle/{name}"] = Reply(body)


def file_entry(body: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"bytes": len(body), "sha256": sha256(body).hexdigest()}


def change_manifest(served: Site, changes: Mapping[str, Any]) -> None:
    """Replaces fields of the manifest; None removes one."""
    manifest = json.loads(served.pages["/bundle/manifest.json"].body)
    manifest |= changes
    kept = {key: value for key, value in manifest.items() if value is not None}
    served.pages["/bundle/manifest.json"] = Reply(json.dumps(kept).encode())


def load(page: Page, backend: str = "wasm", threads: int = 1) -> None:
    body = 'globalThis.trainer = await Trainer.load("/bundle/", given);'
    attempt(page, body, {"backend": backend, "threads": threads})

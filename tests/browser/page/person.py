"""What a person does on the page in web/page: opens it, presses, trains, waits."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from playwright.sync_api import Browser, Page

from tests.browser.pages import ROOT, RUNTIME
from tests.browser.site_server import Reply, Site

TRAIN, TEST = 600, 90
BUILT: Final = ROOT / "web" / "page" / "dist"
WEIGHTS: Final = "async () => [...await hearthPage.trainer.exportWeights()]"


def serve_page(opened: Site) -> None:
    for file in BUILT.rglob("*"):
        if file.is_file():
            opened.pages[f"/{file.relative_to(BUILT)}"] = Reply(file.read_bytes())
    for module in RUNTIME.parent.glob("*.js"):
        opened.pages[f"/bundle/{module.name}"] = Reply(module.read_bytes())
    opened.pages |= data_pages()


def points(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    y = random.integers(0, 3, count).astype(np.int32)
    x = random.normal(size=(count, 4)).astype(np.float32)
    x[np.arange(count), y] += 3
    return x, y


def data_pages() -> dict[str, Reply]:
    random = np.random.default_rng(0)
    index: dict[str, object] = {"name": "points", "mean": 0.0, "std": 1.0}
    pages = {}
    for name, count in (("train", TRAIN), ("test", TEST)):
        x, y = points(random, count)
        index[name] = {"count": count, "x": f"{name}-x.bin", "y": f"{name}-y.bin"}
        pages[f"/data/{name}-x.bin"] = Reply(x.tobytes())
        pages[f"/data/{name}-y.bin"] = Reply(y.tobytes())
    return pages | {"/data/index.json": Reply(json.dumps(index).encode())}


def open_ready(browser: Browser, served: Site, **options: Any) -> Page:
    """The page with model and data, on one thread of the CPU: bits are compared here."""
    opened = browser.new_page(**options)
    opened.goto(served.url + "index.html?backend=wasm&threads=1")
    opened.wait_for_function("hearthPage.phase !== 'loading'")
    return opened


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def figure(page: Page, name: str) -> str:
    return page.inner_text(f"[data-figure={name}]")


def train(page: Page, epochs: int, batch: int = 60) -> None:
    page.fill("[name=epochs]", str(epochs))
    page.fill("[name=batch]", str(batch))
    page.press("[name=batch]", "Tab")
    press(page, "Train")


def wait_for(page: Page, phase: str, condition: str = "true") -> None:
    page.wait_for_function(f"hearthPage.phase === '{phase}' && ({condition})")

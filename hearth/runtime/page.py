"""A page of a headless Chromium that runs one bundle, and calls into it with arrays.

A local server gives the browser the bundle and `chromium_page.js`; Playwright calls that page.
Arrays travel over the server as one block of bytes per call, because a list of JSON numbers would
take longer than the step that it feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, sync_playwright

from hearth import errors
from hearth.bundle.dtypes import NUMPY_DTYPES
from hearth.bundle.read import Bundle
from hearth.errors import BackendError, HearthError, InternalError
from hearth.runtime.browser import find_browser
from hearth.runtime.runner import Array
from hearth.serve import Server

T = TypeVar("T")

_SCRIPT: Final = Path(__file__).with_name("chromium_page.js")
_HTML: Final = (
    b'<!doctype html><meta charset="utf-8"><script type="module" src="/page.js"></script>'
)
_LOAD_TIMEOUT_S: Final = 60.0
_VIEW_ALIGNMENT_BYTES: Final = 8  # a BigInt64Array begins at a multiple of 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned: a JSON value, and arrays by name."""

    value: Any
    arrays: dict[str, Array]


class BundlePage:
    """One browser with one page; calls are answered in order."""

    def __init__(self, bundle: Bundle, flags: list[str]) -> None:
        self.browser_name = ""
        self._blobs: dict[str, bytes] = {}
        self._closing = ExitStack()
        # Playwright belongs to the thread that starts it and bears no second one beside it there.
        thread = self._closing.enter_context(ThreadPoolExecutor(1, "chromium"))
        self._thread = thread
        routes: dict[str, Path | bytes] = {"/index.html": _HTML, "/page.js": _SCRIPT}
        routes |= {f"/bundle/{name}": path for name, path in bundle.paths().items()}
        try:
            server = self._closing.enter_context(Server(routes, blobs=self._blobs))
            self._opened = ExitStack()
            self._closing.callback(lambda: self._on_thread(self._opened.close))
            self._page = self._on_thread(lambda: self._open(f"{server.url}index.html", flags))
        except BaseException:
            self.close()
            raise

    def call(self, name: str, arrays: Mapping[str, Array] | None = None, **given: Any) -> Answer:
        """Calls a function of the page; raises what it raised, as the class of the same name."""
        table, self._blobs["in"] = _pack(arrays or {})
        request = {"name": name, "given": given, "arrays": table}
        try:
            answer = self._on_thread(
                lambda: self._page.evaluate("request => hearthCall(request)", request)
            )
        except PlaywrightError as error:
            raise BackendError("the browser page is gone", why=error.message) from error
        if "error" in answer:
            raise _error(answer["error"])
        return Answer(answer["value"], _unpack(answer["arrays"], self._blobs.pop("out", b"")))

    def close(self) -> None:
        self._closing.close()

    def _on_thread(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def _open(self, url: str, flags: list[str]) -> Page:
        playwright = self._opened.enter_context(sync_playwright())
        executable = find_browser(playwright.chromium.executable_path)
        try:
            # `headless` would choose Playwright's own headless shell, which has no WebGPU.
            browser = playwright.chromium.launch(
                executable_path=executable, headless=False, args=["--headless=new", *flags]
            )
            self._opened.callback(browser.close)
            page = browser.new_page()
            page.goto(url)
            page.wait_for_function("document.title === 'ready'", timeout=_LOAD_TIMEOUT_S * 1000)
        except PlaywrightError as error:
            raise BackendError(f"{executable} did not start", why=error.message) from error
        self.browser_name = f"Chromium {browser.version}"
        return page


def _pack(arrays: Mapping[str, Array]) -> tuple[list[dict[str, Any]], bytes]:
    """Where each array lies in one block of bytes, and the block."""
    table: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    position = 0
    for name, array in arrays.items():
        dtype = "bool" if array.dtype == np.uint8 else array.dtype.name
        data = array.tobytes()
        table.append({"name": name, "dtype": dtype, "offset": position, "length": array.size})
        chunks += (data, b"\0" * (-len(data) % _VIEW_ALIGNMENT_BYTES))
        position += len(chunks[-2]) + len(chunks[-1])
    return table, b"".join(chunks)


def _unpack(table: list[dict[str, Any]], block: bytes) -> dict[str, Array]:
    numpy = {**NUMPY_DTYPES, "bool": np.dtype(np.uint8)}
    return {
        e["name"]: np.frombuffer(block, numpy[e["dtype"]], e["length"], e["offset"]).copy()
        for e in table
    }


def _error(data: Mapping[str, str]) -> HearthError:
    """The browser's error as the Python class of the same name."""
    kind = getattr(errors, data["kind"], InternalError)
    assert issubclass(kind, HearthError)
    parts = {key: data.get(key) or "" for key in ("where", "why", "remedy")}
    return kind(data["what"], **parts)

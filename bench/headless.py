"""One page of a headless Chromium for all measurements of a run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from playwright.sync_api import sync_playwright

from hearth.runtime.browser import find_browser
from hearth.serve import Server


class HeadlessPage:
    """A context that serves `routes` and has `index.html` of them open as `page`."""

    def __init__(self, routes: dict[str, Path | bytes], flags: Sequence[str]) -> None:
        self._routes, self._flags = routes, flags
        self._blobs: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        self._server = Server(self._routes, blobs=self._blobs)
        self._playwright = sync_playwright().start()
        executable = find_browser(self._playwright.chromium.executable_path)
        self._browser = self._playwright.chromium.launch(
            executable_path=executable, headless=False, args=list(self._flags)
        )
        self.page = self._browser.new_page()
        self.page.goto(f"{self._server.url}index.html")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._browser.close()
        self._playwright.stop()
        self._server.close()

    def serve(self, data: bytes) -> str:
        """Where the page can fetch bytes: those of a large model are too many for a message."""
        name = sha256(data).hexdigest()
        self._blobs[name] = data
        return f"/blob/{name}"


def in_base64(data: bytes) -> str:
    """How bytes travel to the page."""
    return base64.b64encode(data).decode()

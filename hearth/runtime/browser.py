"""Finds a Chromium and says how to start it headless, with or without a GPU.

python -m hearth.runtime.browser        prints the path of the browser, or exits 1
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from hearth.errors import BackendError

NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
_MAC: Final = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
# No traffic but ours: a training run must not depend on what a browser looks up in the background.
_QUIET: Final = (
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser(downloaded: str | None = None) -> str:
    """The path of a Chromium: $CHROMIUM, one in PATH, or `downloaded` (what Playwright fetched).

    Raises `BackendError` with the commands that install one.
    """
    given = os.environ.get("CHROMIUM")
    if given:
        found = shutil.which(given)
        if found is None:
            raise BackendError(f"$CHROMIUM is {given!r}, which is not a program that can be run")
        return found
    for name in (*NAMES, _MAC):
        found = shutil.which(name)
        if found is not None:
            return found
    if downloaded is not None and Path(downloaded).is_file():
        return downloaded
    raise BackendError(
        "no Chromium was found",
        why="neither $CHROMIUM, nor a program in PATH, nor a download of Playwright is there",
        remedy="apt-get install chromium, or: python -m playwright install chromium",
    )


def launch_flags(backend: str, *, software_gpu: bool) -> list[str]:
    """Command line flags for a headless run of `backend` ("wasm" or "webgpu").

    `software_gpu` takes SwiftShader, a GPU in software, which every machine has.
    """
    flags = list(_QUIET)
    if _is_root():
        flags.append("--no-sandbox")  # Chromium refuses to start its sandbox as root
    if backend == "webgpu":
        flags.append("--enable-unsafe-webgpu")  # WebGPU is off by default on Linux
        if software_gpu:
            flags.append("--use-webgpu-adapter=swiftshader")
        else:
            flags.append("--enable-features=Vulkan")
    return flags


def has_gpu() -> bool:
    """Whether this machine shows a GPU that Chromium could use: a render node, or not Linux."""
    return sys.platform != "linux" or any(Path("/dev/dri").glob("renderD*"))


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _main() -> None:
    try:
        found = find_browser()
    except BackendError:
        from playwright.sync_api import sync_playwright  # takes a second to start

        with sync_playwright() as playwright:
            found = find_browser(playwright.chromium.executable_path)
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    try:
        _main()
    except BackendError as problem:
        sys.exit(str(problem))

"""Runners by name: where a bundle can be executed from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hearth.bundle.read import read_bundle
from hearth.driver.compiled import read_build
from hearth.errors import InvalidInputError
from hearth.runtime.runner import Runner


def open_runner(bundle: str | Path, runner: str = "wasm", **options: Any) -> Runner:
    """A runner for a bundle folder: one of `RUNNERS`.

    `options` go to the runner: `threads` for wasm and chromium:wasm, `seed` for all.
    """
    if runner not in RUNNERS:
        raise InvalidInputError(
            f"there is no runner {runner!r}", remedy=f"use one of {', '.join(RUNNERS)}"
        )
    if "threads" in options and not runner.endswith("wasm"):
        raise InvalidInputError(f"{runner} has no threads", remedy="use wasm or chromium:wasm")
    return RUNNERS[runner](Path(bundle), **options)


def _reference(path: Path, **options: Any) -> Runner:
    from hearth.runtime.bundle_runner import BundleRunner
    from hearth.runtime.reference import ReferenceDevice

    bundle = read_bundle(path)
    device = ReferenceDevice(bundle.manifest, read_build(path).kernels)
    return BundleRunner(bundle, device, **options)


def _wasm(path: Path, **options: Any) -> Runner:
    from hearth.runtime.bundle_runner import BundleRunner
    from hearth.runtime.wasm import WasmDevice

    threads = options.pop("threads", 1)
    bundle = read_bundle(path)
    return BundleRunner(bundle, WasmDevice(bundle, threads=threads), **options)


def _webgpu(path: Path, **options: Any) -> Runner:
    from hearth.runtime.bundle_runner import BundleRunner
    from hearth.runtime.webgpu import WebgpuDevice

    bundle = read_bundle(path)
    return BundleRunner(bundle, WebgpuDevice(bundle), **options)


def _chromium(backend: str) -> Callable[..., Runner]:
    def open_browser(path: Path, **options: Any) -> Runner:
        from hearth.runtime.chromium import ChromiumTrainer

        return ChromiumTrainer(path, backend, **options)

    return open_browser


RUNNERS: dict[str, Callable[..., Runner]] = {
    "reference": _reference,
    "wasm": _wasm,
    "webgpu": _webgpu,
    "chromium:wasm": _chromium("wasm"),
    "chromium:webgpu": _chromium("webgpu"),
}

"""TensorFlow.js 4.22.0 on its WASM backend, with and without threads, and on WebGPU.

Its WASM backend has no gradient of a convolution's filter or of an embedding; the page adds both
(bench/pages/tfjs-kernels.ts), as no convolution could be trained otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.browser import MODULES, PageSession, Rig
from bench.peers import Peer
from bench.prepare import Case


def open_page(options: dict[str, Any], case: Case, rig: Rig) -> PageSession:
    folder = MODULES / "@tensorflow" / "tfjs-backend-wasm" / "dist"
    return PageSession(rig, case, "tfjs", options, {"/wasm/": folder})


def peer(name: str, **options: Any) -> Peer:
    return Peer(f"tfjs {name}", partial(open_page, options))


PEERS = (
    peer("wasm", backend="wasm", threads=1),
    peer("wasm 2T", backend="wasm", threads=2),
    peer("webgpu", backend="webgpu"),
)

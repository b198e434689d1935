"""jax-js 0.1.25 on WASM and on WebGPU: the whole step, with Adam, under one `jit`.

It keeps no running statistics of BatchNorm, which saves it a little work that the others do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.browser import PageSession, Rig
from bench.peers import Peer
from bench.prepare import Case


def open_page(options: dict[str, Any], case: Case, rig: Rig) -> PageSession:
    return PageSession(rig, case, "jax", options, {})


PEERS = tuple(
    Peer(f"jax-js {backend}", partial(open_page, {"backend": backend}))
    for backend in ("wasm", "webgpu")
)

"""Hearth itself, through the public runtime in the browser.

`Trainer.fit` trains in its worker and reports every loss.  `awaited` waits for the loss of each
`Trainer.trainBatch` before the next: two messages between page and worker are part of the time.
`inline` awaits, too, but on the page's own thread (`worker: false`), as the other frameworks do.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench.browser import PageSession, Rig
from bench.peers import Peer
from bench.prepare import BUILD, ROOT, Case, make_once
from bench.workloads import loss, optimizer


def prepare(case: Case) -> None:
    """Compiles the bundle of a workload: one for all batch sizes."""
    sources = [*(ROOT / "hearth").rglob("*.py"), ROOT / "bench" / "workloads.py",
               ROOT / "web" / "runtime" / "dist" / "hearth.js"]  # fmt: skip
    folder = bundle_folder(case)
    make_once(folder.parent, sources, partial(_compile, case, folder))


def bundle_folder(case: Case) -> Path:
    return BUILD / case.workload.name / "hearth" / "bundle"


def _compile(case: Case, folder: Path) -> None:
    import hearth

    model = case.workload.seeded_model()
    step = hearth.TrainStep(model, loss=loss, optimizer=optimizer(model))
    x, y = case.workload.batches(2)[0]
    hearth.compile(step, x, y).save(folder)


def open_page(options: dict[str, Any], case: Case, rig: Rig) -> PageSession:
    return PageSession(rig, case, "hearth", options, {"/bundle/": bundle_folder(case)})


def peer(name: str, **options: Any) -> Peer:
    return Peer(f"hearth {name}", partial(open_page, options), prepare)


PEERS = (
    peer("wasm", backend="wasm", threads=1, fit=True),
    peer("wasm 2T", backend="wasm", threads=2, fit=True),
    peer("wasm awaited", backend="wasm", threads=1),
    peer("wasm inline", backend="wasm", threads=1, worker=False),
    peer("webgpu", backend="webgpu", fit=True),
)

"""build/bench.json: runs of one workload, batch size and device, each replaced as a whole.

Times of one run were taken in turns on one machine; a ratio is only ever formed within one run.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bench.machine import machine
from bench.measure import Row
from bench.prepare import ROOT, Case

KEPT: Final = ROOT / "build" / "bench.json"

# What others are compared with, by device.
BASELINES: Final = {"cpu": "torch eager 1T", "gpu": "hearth webgpu"}
DEVICES: Final = tuple(BASELINES)

Run = dict[str, Any]  # machine: facts, rows: by peer


def read_runs() -> dict[str, Run]:
    """All runs by workload/batch/device."""
    found: dict[str, Run] = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    return found


def keep(case: Case, device: str, rows: dict[str, Row], browser: str) -> Run:
    """Adds the run of a case, in place of an older one."""
    run = {"machine": machine(browser), "rows": rows}
    runs = read_runs() | {f"{case.key}/{device}": run}
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(runs, indent=1))
    return run


def ratio(run: Run, peer: str, to: str) -> float | None:
    """How many times as long `peer` takes as `to`; None where either has no comparable time."""
    ours, theirs = (comparable(run["rows"].get(name, {})) for name in (peer, to))
    return None if ours is None or theirs is None else ours / theirs


def comparable(row: Row) -> float | None:
    """The median time of a peer that was seen to compute the same losses."""
    ms: float | None = row.get("ms") if row.get("agrees") else None
    return ms

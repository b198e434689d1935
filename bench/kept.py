"""docs/benchmarks.json: what was measured, by workload, batch size and device.

Times of one run were taken in turns on one machine; a ratio is only ever formed within one run.
A case may have several runs, each of some peers; of a peer the newest run counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from bench.machine import machine
from bench.measure import Row
from bench.prepare import ROOT, Case

KEPT: Final = ROOT / "docs" / "benchmarks.json"

# What others are compared with, by device; every run has them.
BASELINES: Final = {"cpu": "torch eager 1T", "gpu": "hearth webgpu"}
OURS: Final = {"cpu": "hearth wasm", "gpu": "hearth webgpu"}
DEVICES: Final = tuple(BASELINES)

Run = dict[str, Any]  # machine: facts, rows: by peer
Runs = dict[str, list[Run]]  # by workload/batch/device, the newest last


def read_runs() -> Runs:
    found: Runs = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    return found


def keep(case: Case, device: str, rows: dict[str, Row], browser: str) -> Run:
    """Adds a run of a case; of the older ones stays what it has not measured."""
    run: Run = {"machine": machine(browser), "rows": rows}
    runs = read_runs()
    key = f"{case.key}/{device}"
    runs[key] = [*remaining(runs.get(key, []), rows, device), run]
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(dict(sorted(runs.items())), indent=1) + "\n")
    return run


def remaining(older: Iterable[Run], measured: Iterable[str], device: str) -> list[Run]:
    """Runs without the peers that are measured anew, except those that ratios are formed with."""
    references = {BASELINES[device], OURS[device]}
    found = []
    for run in older:
        others = set(run["rows"]) - set(measured)
        if others - references:
            rows = {k: row for k, row in run["rows"].items() if k in others | references}
            found.append({**run, "rows": rows})
    return found


def newest(runs: Iterable[Run], peer: str) -> Run | None:
    """The last run that has a row of the peer."""
    return next((run for run in reversed([*runs]) if peer in run["rows"]), None)


def ratio(run: Run | None, peer: str, to: str) -> float | None:
    """How many times as long `peer` takes as `to`; None where either has no comparable time."""
    if run is None:
        return None
    ours, theirs = (comparable(run["rows"].get(name, {})) for name in (peer, to))
    return None if ours is None or theirs is None else ours / theirs


def comparable(row: Row) -> float | None:
    """The median time of a peer that was seen to compute the same losses."""
    ms: float | None = row.get("ms") if row.get("agrees") else None
    return ms

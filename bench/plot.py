"""docs/benchmarks.svg: time per step of every peer relative to PyTorch eager, at one batch size."""

from __future__ import annotations

import math
from pathlib import Path

from bench.kept import BASELINES, Runs, newest, ratio
from bench.page import peers_of
from bench.workloads import WORKLOADS

BATCH = 32
EAGER = BASELINES["cpu"]


def bars(runs: Runs) -> dict[str, list[float]]:
    """Ratios of every peer, one for each workload; NaN where there is none."""
    chosen = [runs.get(f"{name}/{BATCH}/cpu", []) for name in WORKLOADS]
    found: dict[str, list[float]] = {}
    for peer in peers_of(run for of_case in chosen for run in of_case):
        ratios = [ratio(newest(of_case, peer), peer, EAGER) for of_case in chosen]
        if peer != EAGER and any(ratios):
            found[peer] = [math.nan if r is None else r for r in ratios]
    return found


def write_plot(runs: Runs, path: Path) -> None:
    """Needs matplotlib, from `pip install -e .[bench]`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "hearth"  # the same measurements give the same file
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.add_subplot()
    heights = bars(runs)
    width = 0.85 / max(len(heights), 1)
    for i, (peer, ratios) in enumerate(heights.items()):
        places = [x + (i - len(heights) / 2) * width for x in range(len(ratios))]
        axes.bar(places, ratios, width, label=peer)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(WORKLOADS)), [w.title for w in WORKLOADS.values()], fontsize=8)
    axes.set_ylabel(f"time per step ÷ {EAGER}, batch {BATCH}")
    axes.legend(fontsize=7, ncols=3)
    figure.savefig(path, metadata={"Date": None})

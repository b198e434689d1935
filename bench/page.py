"""docs/benchmarks.md, written from the runs that are kept; nothing on it is written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from bench.kept import BASELINES, OURS, Run, Runs, comparable, newest, ratio
from bench.peers.registry import in_order
from bench.prepare import ROOT
from bench.table import shown
from bench.workloads import WORKLOADS

PAGE: Final = ROOT / "docs" / "benchmarks.md"
TITLES: Final = {"cpu": "on the CPU", "gpu": "on WebGPU"}
PLOT: Final = ROOT / "docs" / "benchmarks.svg"

HEAD: Final = """<!-- Written by `python -m bench --page`: measure again instead of editing. -->

# Benchmarks

Whole training steps (forward, loss, backward, Adam), each ending with the loss as a number in
JavaScript or Python. `python -m bench` measures, keeps what it measured in `docs/benchmarks.json`,
and writes this page from it.

- All peers start from the same weights and take the same batches. The losses of their first four
  steps are compared with PyTorch in float64; a peer that deviates by more than 0.1 %, and by more
  than twice as much as PyTorch's own float32 does, is marked and not compared. The largest
  deviation of those that are compared is {deviation}: Adam magnifies the rounding of deep models.
- Browser peers run in tabs of one headless Chromium, native PyTorch in the process that drives it.
  They take turns in each round; a figure is the median over rounds, and ratios are formed within
  one run only: one workload at one batch size on the CPU, or on WebGPU. Hearth and PyTorch eager
  are in every run. Peers that an asterisk marks were measured in a run of their own: compare their
  ratios, not their milliseconds.
- **hearth** is the public `trainer.fit` in its worker, which reports the loss of every step.
  **awaited** waits for each `trainer.trainBatch` before the next, so that two messages between page
  and worker are in every step; **inline** does so on the page's own thread (`worker: false`), as
  the other frameworks run. **2T** are two threads.
- **tfjs** is TensorFlow.js 4.22. Its WASM backend has no gradient kernels for convolutions and
  embeddings; `bench/pages/tfjs-kernels.ts` adds the two, or it could train none of these but the
  MLP. It takes half as many threads as the browser says there are processors, so that for two it
  is told of four.
- **jax-js** runs the whole step under one `jit`, on WebAssembly with a thread for each processor:
  compare it with the rows of two threads. **ort** is ONNX Runtime Web 1.19.2, the last
  version that trains; its graphs are made by its Python package. In the MNIST CNN its gradients
  before the average pooling differ from PyTorch's, those after it agree.
- **prediction** is the time for one sample, its result read back; hearth answers from its worker,
  **inline** on the page's thread, ort in a session of its own, with the weights of the start.
- **torch** is native PyTorch on the CPU, eager and compiled by TorchInductor.
- Dropout is off everywhere: random masks would make losses incomparable. The optimizer is Adam
  (AdamW without weight decay), the only one that all have.
- WebGPU on a machine without a GPU is SwiftShader, a GPU in software: it says how peers compare on
  one device, nothing about GPUs.
"""


Sized = Sequence[tuple[int, list[Run]]]  # a batch size, and its runs


def write_page(runs: Runs) -> None:
    PAGE.write_text(page(runs))


def page(runs: Runs) -> str:
    """The whole page."""
    every = [run for of_case in runs.values() for run in of_case]
    deviations = [row["deviation"] for run in every for row in run["rows"].values()
                  if comparable(row) is not None]  # fmt: skip
    parts = [HEAD.format(deviation=f"{max(deviations, default=0):.0e}")]
    if PLOT.is_file():
        parts.append(f"\n![Time per step relative to PyTorch eager]({PLOT.name})\n")
    for name, workload in WORKLOADS.items():
        for device in BASELINES:
            of_it = runs_of(runs, name, device)
            if of_it:
                parts.append(f"\n## {workload.title}, {TITLES[device]}\n")
                parts += [table(step_lines(of_it, BASELINES[device])), *notes(of_it)]
                parts.append(table(cost_lines(of_it, OURS[device])))
    return "".join((*parts, *predictions(runs), *machines(every)))


def runs_of(runs: Runs, workload: str, device: str) -> Sized:
    """Batch sizes and runs, in order."""
    parts = [(key.split("/"), of_case) for key, of_case in runs.items()]
    found = [
        (int(rows), of_case)
        for (name, rows, on), of_case in parts
        if (name, on) == (workload, device)
    ]
    return sorted(found, key=lambda item: item[0])


def step_lines(sized: Sized, baseline: str) -> Iterator[list[str]]:
    """Milliseconds per step, and the time relative to the baseline's."""
    yield [f"ms per step (÷ {baseline})", *(f"batch {rows}" for rows, _ in sized)]
    yield ["---", *["--:"] * len(sized)]
    for peer in peers_of(run for _, runs in sized for run in runs):
        yield [peer, *(step_cell(runs, peer, baseline) for _, runs in sized)]


def step_cell(runs: Sequence[Run], peer: str, baseline: str) -> str:
    """Of the newest run with the peer; marked where the baseline's own time is of another."""
    run = newest(runs, peer)
    if run is None:
        return "–"
    row = run["rows"][peer]
    if "error" in row:
        return "fails"
    if comparable(row) is None:
        return f"{milliseconds(row['ms'])}, other losses"
    relative = ratio(run, peer, baseline)
    mark = "" if run is newest(runs, baseline) else "\\*"
    return milliseconds(row["ms"]) + ("" if relative is None else f" ({relative:.2f}×)") + mark


def milliseconds(value: float) -> str:
    """Three digits: 0.123, 1.23, 12.3, 123, 1,230."""
    digits = max(0, min(3, 2 - math.floor(math.log10(value)))) if value > 0 else 3
    return f"{value:,.{digits}f}"


def notes(sized: Sized) -> Iterator[str]:
    """Why peers failed, each reason once."""
    reasons: dict[str, list[str]] = {}
    for rows, runs in sized:
        for peer, row in newest_rows(runs).items():
            if "error" in row:
                reasons.setdefault(f"{peer}: {row['error']}", []).append(str(rows))
    for reason, sizes in reasons.items():
        yield f"\nBatch {', '.join(sizes)}: {reason}\n"


def cost_lines(sized: Sized, ours: str) -> Iterator[list[str]]:
    """What a page loads, and how long it waits for the first loss; of the batch nearest to 32."""
    size, runs = min(sized, key=lambda item: abs(item[0] - 32))
    yield [f"batch {size}", f"÷ {ours}", "samples/s", "first step", "code, gzip", "memory",
           "prediction", "deviation"]  # fmt: skip
    yield ["---", *["--:"] * 7]
    for peer, row in newest_rows(runs).items():
        relative = ratio(newest(runs, peer), peer, ours)
        if comparable(row) is not None:
            yield [
                peer, "–" if relative is None else f"{relative:.2f}×",
                f"{size / row['ms'] * 1e3:,.0f}", shown(row.get("first_step_ms"), 1, "ms"),
                shown(row.get("code_bytes"), 1024, "KiB"),
                shown(row.get("memory_bytes"), 2**20, "MiB"), prediction_cell(row),
                f"{row['deviation']:.0e}",
            ]  # fmt: skip


def prediction_cell(row: dict[str, Any]) -> str:
    return f"{milliseconds(row['predict_ms'])} ms" if "predict_ms" in row else "–"


def newest_rows(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """The newest row of every peer."""
    found = ((peer, newest(runs, peer)) for peer in peers_of(runs))
    return {peer: run["rows"][peer] for peer, run in found if run is not None}


def predictions(runs: Runs) -> Iterator[str]:
    """Predictions while training goes on."""
    for key, of_case in runs.items():
        rows = {p: row for p, row in newest_rows(of_case).items() if "live" in row}
        if rows and key.endswith("/32/cpu"):
            yield "\n## Predictions while training\n\n"
            yield "LeNet-5, one sample, while it trains at batch 32.\n"
            yield table(prediction_lines(rows))


def prediction_lines(rows: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    yield ["", "a second", "longest wait"]
    yield ["---", "--:", "--:"]
    for peer, row in rows.items():
        live = row["live"]
        yield [peer, f"{live['predictions_per_s']:,.0f}", f"{live['longest_ms']:.1f} ms"]


def machines(runs: Iterable[Run]) -> Iterator[str]:
    """The facts that all runs share, and those that differ, with their values."""
    facts: dict[str, list[str]] = {}
    for run in runs:
        for name, value in run["machine"].items():
            known = facts.setdefault(name, [])
            if str(value) not in known:
                known.append(str(value))
    yield "\n## Machine and versions\n\nMemory is what the tab's process shares with no other, "
    yield "less that of an empty tab; on WebGPU it leaves out the process of the GPU.\n"
    yield table([["", ""], ["---", "---"], *([n, known_values(n, v)] for n, v in facts.items())])


def known_values(name: str, values: Sequence[str]) -> str:
    """Dates as the first and the last: there are as many as runs."""
    if name == "date" and len(values) > 1:
        return f"{min(values)} to {max(values)}"
    return "; ".join(values)


def peers_of(runs: Iterable[Run]) -> list[str]:
    return in_order(peer for run in runs for peer in run["rows"])


def table(lines: Iterable[Sequence[str]]) -> str:
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

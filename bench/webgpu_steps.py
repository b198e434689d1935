"""Whole training steps on WebGPU in Chromium: time, dispatches, bytes moved; or kernel by kernel.

python -m bench.webgpu_steps [NAME[:BATCH] ...]             ms per step, and what a step moves
python -m bench.webgpu_steps --kernels NAME[:BATCH] ...     where the time of a step goes

NAME is a workload of workloads.py or larger.py.  Without a GPU the device is SwiftShader.  A step
is one submit, awaited; a kernel's time is the best of its timestamps, in its place in the step.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.larger import LARGER
from bench.wasm_steps import Prepared, operations, prepare, touched_bytes
from bench.webgpu import Gpu
from bench.workloads import WORKLOADS
from hearth.inspection import human_bytes
from hearth.traffic import traffic_of


def step(gpu: Gpu, p: Prepared, variant: str, rounds: int) -> None:
    times = gpu.step(p.bundle, p.arrays, p.batch, variant=variant, rounds=rounds)
    program = p.bundle.manifest.programs["train"]
    traffic = traffic_of(p.bundle.manifest, program, p.batch)
    best, median = min(times.step_ms), statistics.median(times.step_ms)
    print(f"{p.name:12s} B={p.batch:<4d} {best:9.2f} ms (median {median:9.2f})   "
          f"{len(program.steps):4d} dispatches   moves {human_bytes(traffic.moved)}, "
          f"{traffic.moved / traffic.needed:.1f} times the least   "
          f"pipelines {times.compile_ms:.0f} ms", flush=True)  # fmt: skip


def kernels(gpu: Gpu, p: Prepared, variant: str, rounds: int, rows: int) -> None:
    times = gpu.step(p.bundle, p.arrays, p.batch, variant=variant, rounds=rounds)
    own, total = times.kernels_ms, sum(times.kernels_ms)
    program = p.bundle.manifest.programs["train"].steps
    products = sum(t for t, s in zip(own, program, strict=True) if p.kernels[s.kernel].template)
    print(f"{p.name} B={p.batch}: step {min(times.step_ms):.2f} ms; {len(own)} kernels, sum "
          f"{total:.2f} ms, of which products and convolutions {products:.2f}")  # fmt: skip
    for i in sorted(range(len(own)), key=lambda i: -own[i])[:rows]:
        kernel = p.kernels[program[i].kernel]
        gflop, gbytes = operations(kernel, p.batch) / 1e9, touched_bytes(p, i) / 1e9
        axes = "x".join(map(str, kernel.axes))
        inner = " ".join("x".join(map(str, s.axes)) for s in kernel.stages if s.axes)
        print(f"{own[i]:9.3f} ms {100 * own[i] / total:5.1f} %  "
              f"{gflop / own[i] * 1e3:6.2f} GF/s {gbytes / own[i] * 1e3:5.2f} GB/s  "
              f"{i:3d} {kernel.name} {axes} / {inner}  {kernel.origin}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*WORKLOADS, *LARGER])
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--variant", default="quads", help="general, quads, software, split, …")
    parser.add_argument("--rounds", type=int, default=5, help="fewer for what takes seconds")
    parser.add_argument("--rows", type=int, default=30, help="with --kernels")
    parser.add_argument("--folder", type=Path, help="keeps the bundles, and takes those it has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as temporary, Gpu() as gpu:
        for name in given.names:
            p = prepare(name, given.folder or Path(temporary), "webgpu")
            if given.kernels:
                kernels(gpu, p, given.variant, given.rounds, given.rows)
            else:
                step(gpu, p, given.variant, given.rounds)


if __name__ == "__main__":
    main()

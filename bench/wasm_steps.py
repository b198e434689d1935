"""Whole training steps on WebAssembly in Chromium next to PyTorch eager on one thread, in one run.

python -m bench.wasm_steps [NAME[:BATCH] ...]             ms per step; one and two threads
python -m bench.wasm_steps --kernels NAME[:BATCH] ...     where the time of a step goes
python -m bench.wasm_steps --threads 2 --kernels NAME ... what keeps two threads from halving it

NAME is a workload of workloads.py or larger.py.  Times are the best of interleaved rounds, because
the machine may be busy.  How much two threads gain is printed beside what they gain in a large
product: 1.9 there means that the machine had two cores to give; about 1, that something else took
one.  A kernel's bound is its time at the machine's peak of 58 GFLOP/s, or of 12 GB/s of memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import hearth
from bench.chromium import Browser, Workload
from bench.larger import LARGER
from bench.workloads import WORKLOADS, loss, optimizer
from hearth.bundle.memory import buffer_bytes
from hearth.bundle.read import Bundle, read_bundle
from hearth.driver.compiled import read_build
from hearth.ir.dim import B, product
from hearth.ir.kernel import Accumulate, Kernel
from hearth.runtime.inputs import check_batch
from tests.codegen.wasm.contractions import dot_kernel

PEAK_GFLOPS, PEAK_GBYTES = 58.0, 12.0
LARGE = Workload({"product": dot_kernel((), B, 512, 512)}, 512)
BATCH = {"resnet18": 8, "transformer": 16, "gpt": 16, "deep": 16, "wide": 8, "gpt256": 4,
         "gpt512": 2}  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A compiled step and a batch for it."""

    name: str
    batch: int
    bundle: Bundle
    kernels: Sequence[Kernel]
    arrays: dict[int, Any]
    eager: Callable[[], Any]


def prepare(given: str, folder: Path, backend: str = "wasm") -> Prepared:
    """Compiles the workload unless its bundle is in the folder already."""
    name, _, size = given.partition(":")
    batch = int(size) if size else BATCH.get(name, 32)
    step, x, y = make_step(name, batch)
    if not (folder / name).is_dir():
        hearth.compile(step, x, y, backends=(backend,)).save(folder / name, runtime=False)
    bundle, kernels = read_bundle(folder / name), read_build(folder / name).kernels
    checked = check_batch(bundle.manifest.programs["train"], (x.numpy(),), (y.numpy(),))

    def eager() -> None:
        step.optimizer.zero_grad()
        step.loss(step.model(x), y).backward()
        step.optimizer.step()

    return Prepared(name, batch, bundle, kernels, checked.arrays, eager)


def make_step(name: str, batch: int) -> tuple[hearth.TrainStep, torch.Tensor, torch.Tensor]:
    """Those of `larger` keep their dropout."""
    workload = {**WORKLOADS, **LARGER}[name]
    torch.manual_seed(0)
    model = workload.seeded_model() if name in WORKLOADS else workload.model().train()
    return hearth.TrainStep(model, loss, optimizer(model)), *workload.batch(batch)


def best_ms(run: Callable[[], Any], seconds: float) -> float:
    """The best of several calls that together take about `seconds`."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return best * 1e3


def steps(browser: Browser, p: Prepared) -> None:
    best: dict[str, float] = {}
    for _ in range(3):
        times = {"eager": best_ms(p.eager, 0.5)}
        for threads in (1, 2):
            times[f"{threads}"] = browser.step_ms(
                p.bundle, p.arrays, p.batch, threads=threads, seconds=0.05, rounds=8
            )
            large = browser.times_ms(LARGE, threads=threads, seconds=0.02, rounds=3)
            times[f"large {threads}"] = large["product"]
        best = {key: min(ms, best.get(key, ms)) for key, ms in times.items()}
    one, two, eager = best["1"], best["2"], best["eager"]
    print(f"{p.name:12s} B={p.batch:<4d} {one:9.3f} ms   eager {eager:9.3f} ms   "
          f"ratio {one / eager:5.2f}   two threads {two:9.3f} ms, {one / two:4.2f}x "
          f"(a product {best['large 1'] / best['large 2']:4.2f}x)", flush=True)  # fmt: skip


def kernels(browser: Browser, p: Prepared, rows: int) -> None:
    program = p.bundle.manifest.programs["train"].steps
    times = browser.kernels_ms(p.bundle, p.kernels, p.arrays, p.batch)
    total = sum(times)
    bounds = [_bound_ms(p, i) for i in range(len(program))]
    products = sum(t for t, s in zip(times, program, strict=True) if p.kernels[s.kernel].template)
    print(f"{p.name} B={p.batch}: {len(times)} kernels, sum {total:.3f} ms, of which products "
          f"and convolutions {products:.3f}; bound {sum(bounds):.3f} ms")  # fmt: skip
    order = sorted(range(len(times)), key=lambda i: bounds[i] - times[i])
    for i in order[:rows]:
        kernel = p.kernels[program[i].kernel]
        gflop, gbytes = operations(kernel, p.batch) / 1e9, touched_bytes(p, i) / 1e9
        axes = "x".join(map(str, kernel.axes))
        print(f"{times[i]:9.4f} ms {100 * times[i] / total:5.1f} %  bound {bounds[i]:8.4f}  "
              f"{gflop / times[i] * 1e3:6.1f} GF/s {gbytes / times[i] * 1e3:5.1f} GB/s  "
              f"{i:3d} {kernel.name} {axes}  {kernel.origin}")  # fmt: skip


def threaded_kernels(browser: Browser, p: Prepared, threads: int, rows: int) -> None:
    """Each on one thread and on several; first what is farthest from an equal share."""
    program = p.bundle.manifest.programs["train"].steps
    alone, team = (
        browser.kernels_ms(p.bundle, p.kernels, p.arrays, p.batch, threads=count)
        for count in (1, threads)
    )
    lost = [ours - one / threads for one, ours in zip(alone, team, strict=True)]
    print(f"{p.name} B={p.batch}: {len(lost)} kernels, sum {sum(alone):.3f} ms, on {threads} "
          f"threads {sum(team):.3f} ms, {sum(alone) / sum(team):.2f}x")  # fmt: skip
    for i in sorted(range(len(lost)), key=lambda i: -lost[i])[:rows]:
        kernel = p.kernels[program[i].kernel]
        axes = "x".join(map(str, kernel.axes))
        print(f"{alone[i]:9.4f} ms {team[i]:9.4f} ms {alone[i] / team[i]:5.2f}x  "
              f"lost {lost[i]:8.4f}  {i:3d} {kernel.name} {axes}  {kernel.origin}")  # fmt: skip


def _bound_ms(p: Prepared, step: int) -> float:
    kernel = p.kernels[p.bundle.manifest.programs["train"].steps[step].kernel]
    return (
        max(operations(kernel, p.batch) / PEAK_GFLOPS, touched_bytes(p, step) / PEAK_GBYTES) / 1e6
    )


def touched_bytes(p: Prepared, step: int) -> int:
    buffers = p.bundle.manifest.programs["train"].steps[step].buffers
    return sum(buffer_bytes(p.bundle.manifest, b, p.batch) for b in set(buffers))


def operations(kernel: Kernel, batch: int) -> float:
    """Of the contraction, if it is one."""
    first = kernel.stages[0]
    if kernel.template is None or not isinstance(first, Accumulate):
        return 0.0
    return 2.0 * kernel.points.at(batch) * product(first.axes).at(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*WORKLOADS, *LARGER])
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="with --kernels")
    parser.add_argument("--rows", type=int, default=30, help="with --kernels")
    parser.add_argument("--folder", type=Path, help="keeps the bundles, and takes those it has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as temporary, Browser() as browser:
        for name in given.names:
            p = prepare(name, given.folder or Path(temporary))
            if given.kernels and given.threads > 1:
                threaded_kernels(browser, p, given.threads, given.rows)
            elif given.kernels:
                kernels(browser, p, given.rows)
            else:
                steps(browser, p)


if __name__ == "__main__":
    main()

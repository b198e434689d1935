"""What `hearth bench` prints: times of one bundle's training steps, dispatches and memory.

Steps are taken one by one, each with its loss read back, on random data.  How a bundle compares
with other frameworks is the matter of bench/, not of this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np

from hearth.bundle.memory import plan_memory
from hearth.bundle.read import read_bundle
from hearth.driver.runners import open_runner
from hearth.driver.samples import random_batch
from hearth.errors import InvalidInputError
from hearth.inspection import human_bytes, table
from hearth.runtime.chromium import ChromiumTrainer
from hearth.runtime.runner import Batch, Runner

WARM_UP_S: Final = 0.5  # browsers compile WebAssembly twice: at once, and then well
_HEADINGS: Final = ("batch", "runner", "ms/step", "best", "samples/s", "arena", "device")


def bench_bundle(
    path: str | Path, runners: Sequence[str], batches: Sequence[int], *, seconds: float,
    threads: int | None = None,
) -> Iterator[str]:  # fmt: skip
    """A report, line by line; medians and best times over `seconds` of steps each.

    `threads` is for the runners of WebAssembly.
    """
    manifest = read_bundle(path).manifest
    if manifest.optimizer is None:
        raise InvalidInputError(f"{path} has no training step to measure")
    dispatches = len(manifest.program("train").steps)
    yield f"{manifest.model}: {dispatches} dispatches (kernels) a step"
    rows: list[Sequence[str]] = [_HEADINGS]
    for name in runners:
        given: dict[str, Any] = {}
        if threads is not None and name.endswith("wasm"):
            given["threads"] = threads
        for batch in batches:
            with closing(open_runner(path, name, **given)) as runner:
                random = np.random.default_rng(0)
                data = random_batch(manifest.program("train").inputs, batch, random)
                step_times_ms(runner, data, WARM_UP_S)
                times = step_times_ms(runner, data, seconds)
                device = runner.device
            middle, best = median(times), min(times)
            arena = human_bytes(plan_memory(manifest, batch).arena_bytes)
            speed = f"{batch / middle * 1e3:,.0f}"
            rows.append((str(batch), name, f"{middle:.3f}", f"{best:.3f}", speed, arena, device))
    yield from table(rows, right=frozenset({0, 2, 3, 4, 5}))


def step_times_ms(runner: Runner, batch: Batch, seconds: float) -> list[float]:
    """The time of each step until `seconds` have passed, at least one; in a browser, its own."""
    if isinstance(runner, ChromiumTrainer):
        return runner.step_times_ms(*batch, seconds)
    times: list[float] = []
    end = perf_counter() + seconds
    while True:
        start = perf_counter()
        runner.train_batch(*batch)
        now = perf_counter()
        times.append((now - start) * 1e3)
        if now >= end:
            return times

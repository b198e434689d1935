"""Native PyTorch on the CPU: eager, and compiled by TorchInductor, on one thread and on two."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.browser import Rig
from bench.peers import Peer
from bench.prepare import CHECKED_STEPS, ROOT, Case, make_once
from bench.workloads import loss, optimizer


class TorchSession:
    def __init__(self, case: Case, threads: int, *, compiled: bool) -> None:
        self._threads = threads
        torch.set_num_threads(threads)
        model = case.workload.seeded_model()
        adamw = optimizer(model)

        def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return loss(model(x), y)

        forward: Callable[..., torch.Tensor] = torch.compile(loss_of) if compiled else loss_of
        update: Callable[[], Any] = torch.compile(adamw.step) if compiled else adamw.step

        def step(x: torch.Tensor, y: torch.Tensor) -> float:
            adamw.zero_grad()
            value = forward(x, y)
            value.backward()  # type: ignore[no-untyped-call]
            update()
            return value.item()

        self._step = step
        self._model = model
        self._batches = case.workload.batches(case.rows)
        self._next = 0
        self._first_step_ms = 0.0

    def losses(self) -> list[float]:
        torch.set_num_threads(self._threads)
        start = time.perf_counter()
        found = [self._one()]
        self._first_step_ms = (time.perf_counter() - start) * 1e3
        return found + [self._one() for _ in range(CHECKED_STEPS - 1)]

    def times_ms(self, seconds: float) -> list[float]:
        torch.set_num_threads(self._threads)
        return timed(self._one, seconds)

    def predictions_ms(self, seconds: float) -> list[float]:
        return timed(self._predict, seconds)

    def live(self, seconds: float) -> dict[str, Any]:
        """Nothing: one thread of Python does one thing at a time."""
        del seconds
        return {"times": [], "steps": 0}

    def facts(self) -> dict[str, Any]:
        return {"first_step_ms": self._first_step_ms, "device": f"{self._threads} threads"}

    def close(self) -> None:
        pass

    def _predict(self) -> None:
        with torch.no_grad():
            self._model(self._batches[0][0][:1])

    def _one(self) -> float:
        batch = self._batches[self._next % len(self._batches)]
        self._next += 1
        return self._step(*batch)


def timed(work: Callable[[], Any], seconds: float) -> list[float]:
    """Milliseconds of each call until `seconds` have passed."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        times.append((now - start) * 1e3)
        if now >= end:
            return times


def eager(threads: int, case: Case, _rig: Rig) -> TorchSession:
    return TorchSession(case, threads, compiled=False)


def compiled(threads: int, case: Case, _rig: Rig) -> TorchSession:
    require_compiler()
    return TorchSession(case, threads, compiled=True)


def warm(threads: int, case: Case) -> None:
    """Fills TorchInductor's cache on disk: compiling takes minutes where the machine is slow."""
    folder = case.folder / f"inductor-{threads}-{torch.__version__}"
    sources = [ROOT / "bench" / "workloads.py", Path(__file__)]
    make_once(folder, sources, lambda: compile_once(threads, case))


def compile_once(threads: int, case: Case) -> None:
    require_compiler()
    TorchSession(case, threads, compiled=True).losses()


def require_compiler() -> None:
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise RuntimeError("torch.compile needs a C++ compiler, and there is none in PATH")


PEERS = (
    *(Peer(f"torch eager {n}T", partial(eager, n)) for n in (1, 2)),
    *(Peer(f"torch compile {n}T", partial(compiled, n), partial(warm, n)) for n in (1, 2)),
)

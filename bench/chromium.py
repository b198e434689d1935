"""Times exported WebAssembly functions in a headless Chromium, on one thread or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.headless import HeadlessPage
from hearth.bundle.dtypes import to_device
from hearth.bundle.manifest import Step
from hearth.bundle.read import Bundle
from hearth.codegen.wasm import METHODS, Call, ConvMethods, emit_module
from hearth.ir.kernel import Kernel
from hearth.runtime.plan import make_plan

PAGE_BYTES = 65536
FLAGS = ["--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
PAGE = """
request => new Promise((resolve, reject) => {
  const worker = new Worker("/worker.js");
  worker.onerror = event => reject(new Error(event.message));
  worker.onmessage = ({data}) => { resolve(data); worker.terminate(); };
  worker.postMessage(request);
})
"""


@dataclass(frozen=True)
class Workload:
    """Named kernels, each timed alone."""

    kernels: dict[str, Kernel]
    batch: int
    methods: ConvMethods = METHODS["fast"]


class Browser(HeadlessPage):
    """One Chromium for all measurements of a run."""

    def __init__(self) -> None:
        worker = Path(__file__).with_name("timing_worker.js")
        super().__init__({"/index.html": b"<!doctype html>", "/worker.js": worker}, FLAGS)

    def times_ms(self, workload: Workload, *, relaxed: bool = True, threads: int = 1,
                 seconds: float = 0.02, rounds: int = 15) -> dict[str, float]:  # fmt: skip
        """The best time of each kernel, on memory full of numbers."""
        return self._times(_request(workload, relaxed, threads), seconds, rounds)

    def step_ms(self, bundle: Bundle, arrays: dict[int, Any], batch: int, *, threads: int = 1,
                seconds: float = 0.02, rounds: int = 15) -> float:  # fmt: skip
        """The best time of one training step; `arrays` are the inputs by buffer."""
        request = _step_request(bundle, arrays, batch, threads)
        return self._times(request, seconds, rounds)["train"]

    def kernels_ms(self, bundle: Bundle, kernels: Sequence[Kernel], arrays: dict[int, Any],
                   batch: int, *, threads: int = 1, rounds: int = 5) -> list[float]:  # fmt: skip
        """The best time of every kernel of a step in its place: on the data that it gets there."""
        steps = bundle.manifest.programs["train"].steps
        calls = {f"{i}": [_call(step)] for i, step in enumerate(steps)}
        module = emit_module(kernels, calls, relaxed=True, threads=threads > 1)
        request = _step_request(bundle, arrays, batch, threads)
        request |= {"code": module.code, "functions": list(calls)}
        return list(self._times(request, 0.004, rounds).values())

    def _times(self, request: dict[str, Any], seconds: float, rounds: int) -> dict[str, float]:
        """Bytes of the request, the module's and segments of memory, go by addresses."""
        segments = [[at, self.serve(data)] for at, data in request["segments"]]
        request = {"threads": 1, **request, "code": self.serve(request["code"]),
                   "segments": segments, "seconds": seconds, "rounds": rounds}  # fmt: skip
        result: dict[str, float] = self.page.evaluate(PAGE, request)
        return result


def _call(step: Step) -> Call:
    return Call(step.kernel, step.buffers)


def _request(workload: Workload, relaxed: bool, threads: int) -> dict[str, Any]:
    calls: dict[str, Sequence[Call]] = {}
    sizes: list[int] = []
    for number, (name, kernel) in enumerate(workload.kernels.items()):
        first = len(sizes)
        sizes += [p.size.at(workload.batch) for p in kernel.params]
        calls[name] = [Call(number, tuple(range(first, len(sizes))))]
    kernels = list(workload.kernels.values())
    module = emit_module(kernels, calls, relaxed=relaxed, threads=threads > 1,
                         methods=workload.methods)  # fmt: skip
    scratch = _align(2048 + 4 * len(sizes))
    words, top = [[1024, scratch]], _align(scratch + threads * module.scratch_bytes)
    start = top
    for i, size in enumerate(sizes):
        words.append([2048 + 4 * i, top])
        top = _align(top + 4 * size)
    return {
        "code": module.code,
        "pages": -(-top // PAGE_BYTES) + 1,
        "words": words,
        "numbers": [start, top],
        "segments": [],
        "functions": list(workload.kernels),
        "batch": workload.batch,
        "threads": threads,
    }


def _step_request(bundle: Bundle, arrays: Mapping[int, Any], batch: int,
                  threads: int) -> dict[str, Any]:  # fmt: skip
    manifest = bundle.manifest
    assert manifest.wasm is not None
    features = (
        ("simd128", "relaxed-simd", "threads") if threads > 1 else ("simd128", "relaxed-simd")
    )
    (variant,) = (v for v in manifest.wasm.variants if v.features == features)
    plan = make_plan(manifest, batch)
    scratch = _align(2048 + 4 * len(plan.offsets))
    arena = _align(scratch + threads * manifest.wasm.scratch_bytes)
    state = bundle.initial_state()
    data = {arena + s.offset: to_device(state[s.name], s.name) for s in manifest.state}
    data |= {arena + plan.offsets[buffer]: array for buffer, array in arrays.items()}
    table = [[2048 + 4 * i, arena + offset] for i, offset in enumerate(plan.offsets)]
    return {
        "code": bundle.file(variant.file),
        "pages": -(-(arena + plan.arena_bytes) // PAGE_BYTES) + 1,
        "words": [[1024, scratch], *table],
        "numbers": [0, 0],
        "segments": [[at, a.tobytes()] for at, a in data.items() if a.any()],
        "functions": ["train"],
        "batch": batch,
        "threads": threads,
    }


def _align(size: int) -> int:
    return -(-size // 256) * 256

"""Times exported WebAssembly functions in a headless Chromium, on one thread."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from playwright.sync_api import sync_playwright

from hearth.bundle.dtypes import to_device
from hearth.bundle.read import Bundle
from hearth.codegen.wasm import Call, emit_module
from hearth.ir.kernel import Kernel
from hearth.runtime.browser import find_browser
from hearth.runtime.plan import make_plan

PAGE_BYTES = 65536
FLAGS = ["--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip

# Runs each function until `seconds` have passed, in `rounds`; the best time per call in ms.
SCRIPT = """
async ({code, pages, words, start, segments, functions, batch, seconds, rounds}) => {
  const decode = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const bytes = decode(code);
  const memory = new WebAssembly.Memory({initial: pages, maximum: 65536});
  const u32 = new Uint32Array(memory.buffer), f32 = new Float32Array(memory.buffer);
  for (let i = start / 4; i < f32.length; i++) f32[i] = Math.sin(i * 12.9898);
  for (const [at, value] of words) u32[at / 4] = value;
  for (const [at, text] of segments) new Uint8Array(memory.buffer).set(decode(text), at);
  const {instance} = await WebAssembly.instantiate(bytes, {env: {memory}});
  const best = {};
  for (const name of functions) best[name] = Infinity;
  for (let round = 0; round < rounds; round++)
    for (const name of functions) {
      const run = instance.exports[name];
      for (let calls = 1; ; calls *= 2) {
        const begin = performance.now();
        for (let i = 0; i < calls; i++) run(batch, 0, 1);
        const time = performance.now() - begin;
        if (time > seconds * 1000) { best[name] = Math.min(best[name], time / calls); break; }
      }
    }
  return best;
}
"""


@dataclass(frozen=True)
class Workload:
    """Named kernels, each timed alone."""

    kernels: dict[str, Kernel]
    batch: int


class Browser:
    """One Chromium for all measurements of a run."""

    def __enter__(self) -> Self:
        self._playwright = sync_playwright().start()
        executable = find_browser(self._playwright.chromium.executable_path)
        self._browser = self._playwright.chromium.launch(
            executable_path=executable, headless=False, args=FLAGS
        )
        self._page = self._browser.new_page()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._browser.close()
        self._playwright.stop()

    def times_ms(self, workload: Workload, *, relaxed: bool = True, seconds: float = 0.02,
                 rounds: int = 15) -> dict[str, float]:  # fmt: skip
        """The best time of each kernel."""
        return self._times(_request(workload, relaxed), seconds, rounds)

    def step_ms(self, bundle: Bundle, arrays: dict[int, Any], batch: int) -> float:
        """The best time of one training step; `arrays` are the inputs by buffer."""
        return self._times(_step_request(bundle, arrays, batch), 0.02, 15)["train"]

    def _times(self, request: dict[str, Any], seconds: float, rounds: int) -> dict[str, float]:
        result: dict[str, float] = self._page.evaluate(
            SCRIPT, {**request, "seconds": seconds, "rounds": rounds}
        )
        return result


def _request(workload: Workload, relaxed: bool) -> dict[str, Any]:
    calls: dict[str, Sequence[Call]] = {}
    sizes: list[int] = []
    for number, (name, kernel) in enumerate(workload.kernels.items()):
        first = len(sizes)
        sizes += [p.size.at(workload.batch) for p in kernel.params]
        calls[name] = [Call(number, tuple(range(first, len(sizes))))]
    kernels = list(workload.kernels.values())
    module = emit_module(kernels, calls, relaxed=relaxed, threads=False)
    scratch = _align(2048 + 4 * len(sizes))
    words, top = [[1024, scratch]], _align(scratch + module.scratch_bytes)
    start = top
    for i, size in enumerate(sizes):
        words.append([2048 + 4 * i, top])
        top = _align(top + 4 * size)
    return {
        "code": base64.b64encode(module.code).decode(),
        "pages": -(-top // PAGE_BYTES) + 1,
        "words": words,
        "start": start,
        "segments": [],
        "functions": list(workload.kernels),
        "batch": workload.batch,
    }


def _step_request(bundle: Bundle, arrays: dict[int, Any], batch: int) -> dict[str, Any]:
    manifest = bundle.manifest
    assert manifest.wasm is not None
    (variant,) = (v for v in manifest.wasm.variants if v.features == ("simd128", "relaxed-simd"))
    plan = make_plan(manifest, batch)
    scratch = _align(2048 + 4 * len(plan.offsets))
    arena = _align(scratch + manifest.wasm.scratch_bytes)
    state = bundle.initial_state()
    data = {arena + s.offset: to_device(state[s.name], s.name) for s in manifest.state}
    data |= {arena + plan.offsets[buffer]: array for buffer, array in arrays.items()}
    end = arena + plan.arena_bytes
    table = [[2048 + 4 * i, arena + offset] for i, offset in enumerate(plan.offsets)]
    return {
        "code": base64.b64encode(bundle.file(variant.file)).decode(),
        "pages": -(-end // PAGE_BYTES) + 1,
        "words": [[1024, scratch], *table],
        "start": end,
        "segments": [[at, base64.b64encode(a.tobytes()).decode()] for at, a in data.items()],
        "functions": ["train"],
        "batch": batch,
    }


def _align(size: int) -> int:
    return -(-size // 256) * 256

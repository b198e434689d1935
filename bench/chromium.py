"""Times exported WebAssembly functions in a headless Chromium, one thread, no bundle around them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from playwright.sync_api import sync_playwright

from hearth.codegen.wasm import Call, emit_module
from hearth.ir.kernel import Kernel
from hearth.runtime.browser import find_browser

PAGE_BYTES = 65536
FLAGS = ["--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip

# Runs each function until `seconds` have passed, in `rounds`; the best time per call in ms.
SCRIPT = """
async ({code, pages, words, start, functions, batch, seconds, rounds}) => {
  const bytes = Uint8Array.from(atob(code), c => c.charCodeAt(0));
  const memory = new WebAssembly.Memory({initial: pages, maximum: 65536});
  const u32 = new Uint32Array(memory.buffer), f32 = new Float32Array(memory.buffer);
  for (let i = start / 4; i < f32.length; i++) f32[i] = Math.sin(i * 12.9898) ;
  for (const [at, value] of words) u32[at / 4] = value;
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
        request = _request(workload, relaxed)
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
        "functions": list(workload.kernels),
        "batch": workload.batch,
    }


def _align(size: int) -> int:
    return -(-size // 256) * 256

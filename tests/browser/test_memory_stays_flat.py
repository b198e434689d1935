"""Ten thousand training steps leave the memory of the page as it was."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, CDPSession
from torch import nn

import hearth
from hearth.bundle.read import read_bundle
from hearth.serve import Server

pytestmark = [pytest.mark.chromium, pytest.mark.slow]

STRETCHES, STEPS = 5, 2_000
# The least object that a step could leave behind, in a list; `fit` keeps the losses of its run.
LEAKED_BYTES_PER_STEP = {"awaited": 16, "fit": 16 + 2 * 8}

LOAD = """
const memories = [];
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(descriptor) { super(descriptor); memories.push(this); }
};
const { Trainer } = await import("/bundle/hearth.js");
const trainer = await Trainer.load("/bundle/", {
  backend: "wasm", threads: 1, worker: false, batchSize: 32,
});
const x = new Float32Array(32 * 784).map((_, i) => (i % 251) / 251);
const y = new Int32Array(32).map((_, i) => i % 10);
globalThis.awaited = async (steps) => {
  let loss = 0;
  for (let i = 0; i < steps; i++) loss = (await trainer.trainBatch(x, y)).loss;
  return loss;
};
globalThis.fit = async (steps) => {
  let loss = 0;
  const batches = (function* () { for (let i = 0; i < steps; i++) yield { x, y }; })();
  for await (const event of trainer.fit(batches)) {
    if (event.kind === "steps") loss = event.steps.at(-1).loss;
  }
  return loss;
};
globalThis.wasmBytes = () => memories.reduce((sum, m) => sum + m.buffer.byteLength, 0);
"""


def mlp() -> hearth.TrainStep:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)


def held_bytes(session: CDPSession) -> float:
    """The JavaScript heap of the page and the arrays outside of it, without garbage."""
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    usage: dict[str, Any] = session.send("Runtime.getHeapUsage")
    return float(usage["usedSize"] + usage["backingStorageSize"])


@pytest.mark.parametrize("way", ["awaited", "fit"])
def test_memory_stays_flat_over_ten_thousand_steps(
    way: str, browser: Browser, tmp_path: Path
) -> None:
    targets = torch.zeros(2, dtype=torch.long)
    hearth.compile(mlp(), torch.zeros(2, 784), targets, backends=("wasm",)).save(tmp_path / "mlp")
    bundle = read_bundle(tmp_path / "mlp")
    routes: dict[str, Path | bytes] = {"/index.html": b"<!doctype html>"}
    routes |= {f"/bundle/{path.name}": path for path in bundle.path.iterdir()}
    with Server(routes) as server:
        page = browser.new_page()
        page.goto(f"{server.url}index.html")
        page.evaluate(f"async () => {{ {LOAD} }}")
        session = page.context.new_cdp_session(page)
        page.evaluate(f"() => {way}(3000)")  # code is optimized, caches are filled
        heap, memory = [held_bytes(session)], page.evaluate("wasmBytes()")
        for _ in range(STRETCHES):
            loss = page.evaluate(f"() => {way}({STEPS})")
            heap.append(held_bytes(session))
        assert page.evaluate("wasmBytes()") == memory > 0
        page.close()
    assert loss < 0.01
    # The engine's own notes on hot code come now and then (tens of kB); a leak is in each stretch.
    grown = [after - before for before, after in pairwise(heap)]
    assert median(grown) < LEAKED_BYTES_PER_STEP[way] * STEPS, f"{grown} bytes"

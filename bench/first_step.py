"""How long a person waits: compile time, and page load to first completed step in Chromium.

    python bench/first_step.py [--rounds 3]

Times are medians over rounds, each with a new browser and an empty profile, from the start of the
navigation on localhost to the loss of the first step (batch 32).  Also prints what is shipped.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import sync_playwright

import hearth
from hearth.bundle.read import Bundle, read_bundle
from hearth.entry_point import load_step
from hearth.runtime.browser import find_browser, has_gpu, launch_flags
from hearth.serve import Server

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "mnist.py"

BATCH = 32
PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
import { Trainer } from "/bundle/hearth.js";
const trainer = await Trainer.load("/bundle/", { backend: "%s", batchSize: %d });
const loaded = performance.now();
const { loss } = await trainer.trainBatch(new Float32Array(%d * 784).fill(0.5), new Int32Array(%d));
window.result = { loaded, first: performance.now(), loss, device: trainer.device };
</script>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{'model':<8}{'compile':>9}  {'backend':<8}{'load':>9}{'first step':>12}  device")
    with TemporaryDirectory() as folder:
        for name in ("mlp", "lenet5", "cnn"):
            step = load_step(f"{EXAMPLES}:{name}")
            start = time.perf_counter()
            compiled = hearth.compile(*step)
            compile_s = time.perf_counter() - start
            compiled.save(Path(folder) / name)
            bundle = read_bundle(Path(folder) / name)
            for backend in ("wasm", "webgpu"):
                results = [first_step(bundle, backend) for _ in range(rounds)]
                load, first = (
                    statistics.median(r[key] for r in results) for key in ("loaded", "first")
                )
                device = results[0]["device"]
                print(
                    f"{name:<8}{compile_s:>7.2f} s  {backend:<8}{load:>6.0f} ms{first:>9.0f} ms"
                    f"  {device['adapter']}, {device['threads']} threads"
                )


def first_step(bundle: Bundle, backend: str) -> dict[str, Any]:
    html = PAGE % (backend, BATCH, BATCH, BATCH)
    routes: dict[str, Path | bytes] = {"/index.html": html.encode()}
    routes |= {f"/bundle/{name}": path for name, path in bundle.paths().items()}
    flags = launch_flags(backend, software_gpu=not has_gpu())
    with Server(routes) as server, sync_playwright() as playwright:
        executable = find_browser(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        page = browser.new_page()
        page.goto(f"{server.url}index.html")
        page.wait_for_function("window.result", timeout=120_000)
        result: dict[str, Any] = page.evaluate("window.result")
        browser.close()
    assert result["device"]["backend"] == backend
    return result


if __name__ == "__main__":
    main()

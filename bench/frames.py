"""Frames a second of a page that trains in its worker, next to the same page at rest.

    python -m bench.frames [--threads 1] [--windows 5]

Windows of one second, at rest and training by turns, on the MNIST MLP of `examples` and a larger
one; also the tasks of the page's thread that took longer than 50 ms.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import nn

import hearth
from bench.headless import HeadlessPage
from hearth.bundle.read import read_bundle

SCRIPT: Final = Path(__file__).with_suffix(".js")
FEATURES: Final = 784
# A frame needs a window to be drawn in; the old headless mode draws none.
FLAGS: Final = ["--headless=new", "--no-sandbox"]
HTML: Final = b"""<!doctype html><meta charset="utf-8"><script type="module">
import * as hearth from "/bundle/hearth.js";
import "/frames.js";
globalThis.hearth = hearth;
</script>"""


@dataclass(frozen=True, slots=True)
class Window:
    """A second of a page; `long_tasks_ms` are those of its thread above 50 ms."""

    trains: bool
    frames_per_second: float
    long_tasks_ms: tuple[float, ...]
    steps: int


def measure(
    evaluate: Callable[[str, dict[str, Any]], Any],
    bundle: str,
    *,
    batch: int,
    worker: bool = True,
    threads: int = 1,
    windows: int = 5,
    window_ms: int = 1000,
) -> list[Window]:
    """Measures in a page that has the runtime as `hearth` and `frames.js`."""
    given = {
        "bundle": bundle, "worker": worker, "threads": threads, "batch": batch,
        "features": FEATURES, "windows": windows, "ms": window_ms,
    }  # fmt: skip
    found = evaluate("(given) => measureFrames(globalThis.hearth, given)", given)
    return [Window(w["trains"], w["perSecond"], tuple(w["longTasks"]), w["steps"]) for w in found]


def save_mlp(folder: Path, hidden: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    examples = torch.zeros(2, FEATURES), torch.zeros(2, dtype=torch.long)
    hearth.compile(step, *examples, backends=["wasm"]).save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--windows", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{'hidden':>6}{'batch':>7}{'at rest':>10}{'training':>10}{'long tasks':>12}{'steps/s':>9}"
    )
    for hidden, batch in ((128, 64), (512, 512)):
        with TemporaryDirectory() as folder:
            save_mlp(Path(folder) / "dist", hidden)
            bundle = read_bundle(Path(folder) / "dist")
            routes: dict[str, Path | bytes] = {"/index.html": HTML, "/frames.js": SCRIPT}
            routes |= {f"/bundle/{name}": path for name, path in bundle.paths().items()}
            with HeadlessPage(routes, FLAGS) as opened:
                opened.page.wait_for_function("globalThis.hearth")
                found = measure(
                    opened.page.evaluate, "/bundle/", batch=batch,
                    threads=options.threads, windows=options.windows,
                )  # fmt: skip
        rest, training = ([w for w in found if w.trains is trains] for trains in (False, True))
        rates = [
            sum(w.frames_per_second for w in windows) / len(windows) for windows in (rest, training)
        ]
        long_tasks = sum(len(w.long_tasks_ms) for w in training)
        steps = sum(w.steps for w in training) / len(training)
        print(
            f"{hidden:>6}{batch:>7}{rates[0]:>10.1f}{rates[1]:>10.1f}{long_tasks:>12}{steps:>9.0f}"
        )


if __name__ == "__main__":
    main()

"""What augmentation costs: the training step of examples/cifar10.py with and without it.

    python -m bench.augmentation [--batch 32] [--prepare]

Milliseconds in Chromium, WebAssembly on one and two threads: of a whole step, the best of rounds
that alternate between the two bundles; and of its kernels one by one, in all and before the first
convolution, which is the augmentation (without it, the normalization).  Beside them PyTorch's
eager augmentation of the same batch on two threads.  `--prepare` only compiles.
"""

from __future__ import annotations

import argparse
import time
from itertools import takewhile
from typing import Any, Final

import numpy as np
import torch

import hearth
from bench.chromium import Browser
from bench.prepare import BUILD
from examples.cifar10 import augmentation, cnn
from hearth.bundle.read import Bundle, read_bundle
from hearth.driver.compiled import read_build
from hearth.ir.kernel import Kernel
from hearth.runtime.inputs import check_batch

FOLDER: Final = BUILD / "augmentation"
Opened = tuple[Bundle, tuple[Kernel, ...], dict[int, Any], int]
KINDS: Final = ("without", "with")
ROUNDS: Final = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    for kind in KINDS:
        if options.prepare or not (FOLDER / kind).exists():
            prepare(kind)
    if options.prepare:
        return
    images = np.random.default_rng(0).integers(0, 256, (options.batch, 3, 32, 32)).astype(np.int32)
    with Browser() as browser:
        opened = {kind: opened_of(kind, images) for kind in KINDS}
        for threads in (1, 2):
            print(f"batch {len(images)}, {threads} thread(s):", flush=True)
            measure(browser, opened, threads)
    print(f"PyTorch eager, the augmentation alone: {eager_ms(images):.2f} ms")


def measure(browser: Browser, opened: dict[str, Opened], threads: int) -> None:
    best = dict.fromkeys(KINDS, float("inf"))
    for _ in range(ROUNDS):
        for kind, (bundle, _, arrays, batch) in opened.items():
            ms = browser.step_ms(bundle, arrays, batch, threads=threads, seconds=0.15, rounds=4)
            best[kind] = min(ms, best[kind])
    for kind, (bundle, kernels, arrays, batch) in opened.items():
        times = browser.kernels_ms(bundle, kernels, arrays, batch, threads=threads)
        first = sum(times[: before_convolutions(bundle, kernels)])
        print(f"  {kind:7} augmentation: step {best[kind]:.2f} ms; one by one {sum(times):.2f} ms, "
              f"before the first convolution {first:.2f} ms")  # fmt: skip


def prepare(kind: str) -> None:
    step, *examples = cnn()
    if kind == "without":
        step = hearth.TrainStep(step.model, step.loss, step.optimizer)
    hearth.compile(step, *examples, backends=["wasm"]).save(FOLDER / kind, runtime=False)


def opened_of(kind: str, images: Any) -> Opened:
    bundle, kernels = read_bundle(FOLDER / kind), read_build(FOLDER / kind).kernels
    labels = np.arange(len(images)) % 10
    checked = check_batch(bundle.manifest.programs["train"], (images,), (labels,))
    return bundle, kernels, checked.arrays, checked.batch


def before_convolutions(bundle: Bundle, kernels: tuple[Kernel, ...]) -> int:
    steps = bundle.manifest.programs["train"].steps
    return len(list(takewhile(lambda step: kernels[step.kernel].template is None, steps)))


def eager_ms(images: Any) -> float:
    torch.set_num_threads(2)
    pixels, best = torch.from_numpy(images.astype(np.uint8)), float("inf")
    for _ in range(50):
        start = time.perf_counter()
        augmentation(pixels)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


if __name__ == "__main__":
    main()

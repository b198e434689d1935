"""CIFAR-10 in Chromium and in PyTorch: the same seed, batches, schedule and random numbers.

    python bench/cifar10_accuracy.py DIR [--epochs 6] [--images 20000]

DIR holds data_batch_1.bin, …, test_batch.bin of the "CIFAR-10 binary version", gzip or not.  The
network and its augmentation are those of examples/cifar10.py.  Chromium trains with `trainer.fit`
on WebAssembly; PyTorch takes the batches in the order that the page's DataLoader gave, and draws
what the compiled step draws.  The two differ by rounding alone, which training magnifies.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hearth
from bench.headless import HeadlessPage
from examples.cifar10 import BATCH, EPOCHS, IMAGES, cnn
from hearth.bundle.read import read_bundle
from hearth.capture.random import replay_random
from hearth.runtime.browser import launch_flags

RECORD, SHAPE = 1 + 3 * 32 * 32, (3, 32, 32)
SEED = 0
PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
import { ArrayDataset, DataLoader, Trainer } from "/bundle/hearth.js";
const bytes = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
const dataset = async (name) => {
  const y = await bytes(`/${name}.labels`);
  return new ArrayDataset({ x: await bytes(`/${name}.pixels`), y, samples: y.length });
};
globalThis.events = [];
globalThis.train = async ({ epochs, batch, seed }) => {
  const trainer = await Trainer.load("/bundle/", { backend: "wasm", threads: 2, seed });
  const loader = new DataLoader(await dataset("train"), {
    batchSize: batch, shuffle: true, seed, dropLast: true });
  const validate = new DataLoader(await dataset("test"), { batchSize: 100 });
  globalThis.orders = Array.from({ length: epochs }, (_, e) => Array.from(loader.order(e)));
  const run = trainer.fit(loader, { epochs, validate });
  for await (const event of run) globalThis.events.push(event);
  globalThis.done = true;
};
document.title = "ready";
</script>"""

Array = NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    train = read_cifar10(sorted(options.data.glob("data_batch_*")))
    train = (train[0][: options.images], train[1][: options.images])
    test = read_cifar10(sorted(options.data.glob("test_batch*")))
    print(f"{len(train[1])} images to train on, {len(test[1])} to test, {options.epochs} epochs")
    losses, accuracies, orders = in_chromium(train, test, options.epochs)
    ours, theirs = np.array(losses), in_pytorch(train, test, orders, accuracies)
    print("largest difference of the loss, of the loss of PyTorch:")
    for last in sorted({min(n, len(ours)) for n in (1, 10, 100, len(ours))}):
        worst = np.abs(ours[:last] / theirs[:last] - 1).max()
        print(f"  in {last:5} steps {worst:.1e}")


def read_cifar10(files: Sequence[Path]) -> tuple[Array, Array]:
    """Pixels [N, 3, 32, 32] and labels [N], both bytes."""
    data = b"".join(
        gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for file in files
    )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, *SHAPE), records[:, 0].copy()


def in_chromium(
    train: tuple[Array, Array], test: tuple[Array, Array], epochs: int
) -> tuple[list[float], list[float], list[list[int]]]:
    """The loss of every step, the accuracy after every epoch, and the order of the images."""
    with TemporaryDirectory() as folder:
        hearth.compile(*cnn(epochs, len(train[1]), BATCH), backends=["wasm"]).save(folder)
        routes: dict[str, Path | bytes] = {"/index.html": PAGE.encode()}
        routes |= {f"/bundle/{name}": path for name, path in read_bundle(folder).paths().items()}
        for name, (pixels, labels) in {"train": train, "test": test}.items():
            routes |= {f"/{name}.pixels": pixels.tobytes(), f"/{name}.labels": labels.tobytes()}
        flags = ["--headless=new", *launch_flags("wasm", software_gpu=False)]
        with HeadlessPage(routes, flags) as headless:
            page = headless.page
            page.wait_for_function("document.title === 'ready'")
            given = {"epochs": epochs, "batch": BATCH, "seed": SEED}
            begin = time.perf_counter()
            page.evaluate("given => { train(given).catch((e) => { globalThis.done = `${e}`; }); }",
                          given)  # fmt: skip
            seen = 0
            while not (done := page.evaluate("globalThis.done ?? false")):
                time.sleep(5)
                found = page.evaluate("events.filter((e) => e.kind === 'validation')")
                for event in found[seen:]:
                    report("Chromium", event["epoch"], event["metrics"]["accuracy"], begin)
                seen = len(found)
            if done is not True:
                raise RuntimeError(done)
            events, orders = page.evaluate("[events, orders]")
    losses = [step["loss"] for e in events if e["kind"] == "steps" for step in e["steps"]]
    accuracies = [e["metrics"]["accuracy"] for e in events if e["kind"] == "validation"]
    return losses, accuracies, orders


def in_pytorch(
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    orders: Sequence[Sequence[int]],
    accuracies: Sequence[float],
) -> Array:
    """The loss of every step; prints the accuracy after every epoch beside Chromium's."""
    torch.set_num_threads(1)  # its threads wait actively, which others on the machine pay for
    step, _, _ = cnn(len(orders), len(train[1]), BATCH)
    assert step.augmentation is not None
    assert step.schedule is not None
    scheduler = step.schedule.scheduler
    losses: list[float] = []
    begin = time.perf_counter()
    for epoch, order in enumerate(orders):
        step.model.train()
        batches = np.array(order)[: len(order) // BATCH * BATCH].reshape(-1, BATCH)
        for rows in batches:
            labels = torch.from_numpy(train[1][rows]).long()
            with replay_random(SEED, len(losses)):
                images = step.augmentation(torch.from_numpy(train[0][rows]))
            loss = step.loss(step.model(images), labels)
            step.optimizer.zero_grad()
            loss.backward()
            step.optimizer.step()
            losses.append(loss.item())
            if len(losses) < len(orders) * len(batches):
                scheduler.step()
        right = accuracy(step.model.eval(), test)
        report("PyTorch", epoch, right, begin)
        print(f"           Chromium - PyTorch = {100 * (accuracies[epoch] - right):+.2f} %")
    return np.array(losses)


def accuracy(model: torch.nn.Module, test: tuple[Array, Array]) -> float:
    with torch.no_grad():
        outputs = [model(torch.from_numpy(part)) for part in np.array_split(test[0], 10)]
    return float((torch.cat(outputs).argmax(1).numpy() == test[1]).mean())


def report(who: str, epoch: int, share: float, begin: float) -> None:
    minutes = (time.perf_counter() - begin) / 60
    print(f"{who:9} epoch {epoch + 1}: {100 * share:.2f} % right, {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    main()

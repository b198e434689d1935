"""The whole path on one page: compile, train in a real browser, and check the weights in PyTorch.

python examples/mnist_demo.py [--model mlp|lenet5|cnn] [--backend wasm|webgpu] [--data DIR]
                              [--epochs N] [--open]
"""

from __future__ import annotations

import argparse
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path

import mnist
import numpy as np
import torch

import hearth
from hearth.bundle.read import read_bundle
from hearth.data import Dataset, fit_to_program, load_dataset
from hearth.serve import Server
from hearth.site import bundle_site
from hearth.training import accuracy, train_bundle

ROOT = Path(__file__).resolve().parents[1]
LARGEST_DIFFERENCE = 1e-3  # of a logit; float32 gives about 1e-5


def main() -> int:
    options = parse()
    folder = ROOT / "build" / "demo" / options.model
    step, inputs, targets = getattr(mnist, options.model)()
    print(f"compiling {options.model} into {folder.relative_to(ROOT)}")
    if options.open:  # the page shows the accuracy of every batch, and the inside of the model
        step = replace(step, training_metrics=True)
    hearth.compile(step, inputs, targets, inspect=options.open).save(folder)
    if options.open:
        return serve(folder, options.data)

    weights = folder.with_suffix(".trained.safetensors")
    print(f"training in Chromium ({options.backend})")
    data = load_dataset(options.data)
    browser = train_bundle(
        folder,
        data=data,
        runner=f"chromium:{options.backend}",
        epochs=options.epochs or (3 if len(data.train) > 10_000 else 20),
        output=weights,
    )
    step.model.load_state_dict(hearth.load_weights(weights))
    program = read_bundle(folder).manifest.programs["train"]
    fitted = fit_to_program(data, program)
    logits = predict(step.model, fitted)
    ours = accuracy(logits, fitted.test.targets, program)
    difference = float(np.abs(logits - browser.outputs).max())
    print(f"accuracy in the browser  {browser.accuracy:.4%}")
    print(f"accuracy in PyTorch      {ours:.4%}")
    print(f"largest difference of a logit on {len(fitted.test)} test images: {difference:.1e}")
    if difference > LARGEST_DIFFERENCE:
        print(f"the browser and PyTorch disagree by more than {LARGEST_DIFFERENCE:.0e}")
        return 1
    return 0


def predict(model: torch.nn.Module, data: Dataset) -> np.ndarray:
    """The logits of the test set, as PyTorch computes them."""
    model.eval()
    with torch.no_grad():
        parts = [model(part) for part in torch.from_numpy(data.test.inputs).split(256)]
        return torch.cat(parts).numpy()


def serve(folder: Path, data: str | None) -> int:
    """Serves the page where a person trains the model, until Ctrl-C."""
    with Server(bundle_site(folder, data=data), port=0) as server:
        print(f"open {server.url} and press Train; stop with Ctrl-C", flush=True)
        webbrowser.open(server.url)
        try:
            server.wait()
        except KeyboardInterrupt:
            print()
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("mlp", "lenet5", "cnn"), default="mlp")
    parser.add_argument("--backend", choices=("wasm", "webgpu"), default="wasm")
    parser.add_argument("--data", metavar="DIR", help="MNIST's IDX files; default: digits")
    parser.add_argument("--epochs", type=int, help="default: 3 for MNIST, 20 for digits")
    parser.add_argument("--open", action="store_true", help="serve a page to train in instead")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except hearth.HearthError as error:
        sys.exit(f"{type(error).__name__}: {error}")

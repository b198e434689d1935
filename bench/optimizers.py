"""Optimizers and schedules next to PyTorch over 1,000 steps: the tables of docs/optimizers.md.

    python -m bench.optimizers [--steps N] [NAME ...]

Each optimizer trains one small network on the same batches in WebAssembly (wasmtime), in PyTorch
float32 and in PyTorch float64.  What is printed is the largest difference of any weight from
float64, relative to the largest weight of its tensor.  Schedules are recorded from PyTorch: their
difference is of the rates that the bundle carries.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler

import hearth
from bench.prepare import ROOT
from hearth.optim import Lion, parameter_groups, proximal_l1
from hearth.steps.schedule import Schedule, learning_rates

PAGE: Final = ROOT / "docs" / "optimizers.md"
BATCH: Final = 16
BATCHES: Final = 8
MARKS: Final = ("<!-- measured: {} -->", "<!-- end -->")
O = torch.optim  # noqa: E741
L = lr_scheduler

Groups = list[dict[str, Any]]
OPTIMIZERS: Final[dict[str, Callable[[Groups], torch.optim.Optimizer]]] = {
    "SGD": lambda g: O.SGD(g, lr=0.05),
    "SGD, Nesterov momentum": lambda g: O.SGD(g, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": lambda g: O.Adam(g, lr=0.003),
    "Adam, AMSGrad": lambda g: O.Adam(g, lr=0.003, amsgrad=True),
    "AdamW": lambda g: O.AdamW(g, lr=0.003),
    "Adamax": lambda g: O.Adamax(g, lr=0.003),
    "NAdam": lambda g: O.NAdam(g, lr=0.003),
    "RAdam": lambda g: O.RAdam(g, lr=0.003),
    "Adagrad": lambda g: O.Adagrad(g, lr=0.03),
    "Adadelta": lambda g: O.Adadelta(g, lr=1.0),
    "RMSprop, centered": lambda g: O.RMSprop(g, lr=0.001, centered=True),
    "ASGD": lambda g: O.ASGD(g, lr=0.02),
    "Rprop": lambda g: O.Rprop(g, lr=0.001),
    "Lion": lambda g: Lion(g, lr=0.0005, weight_decay=0.01),
    "Muon (weights alone)": lambda g: O.Muon(g[:1], lr=0.01),
    "SGD, soft threshold": lambda g: proximal_l1(O.SGD)(g, lr=0.05, l1=1e-3),
}
SCHEDULES: Final[dict[str, Callable[[torch.optim.Optimizer], Any]]] = {
    "ConstantLR": lambda o: L.ConstantLR(o, 0.5, 100),
    "LinearLR": lambda o: L.LinearLR(o, 0.1, 1, 200),
    "StepLR": lambda o: L.StepLR(o, 100),
    "MultiStepLR": lambda o: L.MultiStepLR(o, [100, 700]),
    "ExponentialLR": lambda o: L.ExponentialLR(o, 0.995),
    "PolynomialLR": lambda o: L.PolynomialLR(o, 900, 2.0),
    "CosineAnnealingLR": lambda o: L.CosineAnnealingLR(o, 1000),
    "CosineAnnealingWarmRestarts": lambda o: L.CosineAnnealingWarmRestarts(o, 100, 2),
    "OneCycleLR": lambda o: L.OneCycleLR(o, 0.1, 1000, cycle_momentum=False),
    "CyclicLR": lambda o: L.CyclicLR(o, 0.001, 0.1, cycle_momentum=False),
    "LambdaLR": lambda o: L.LambdaLR(o, lambda step: 1 / (1 + step)),
    "SequentialLR": lambda o: L.SequentialLR(
        o, [L.LinearLR(o, 0.1, 1, 50), L.CosineAnnealingLR(o, 950)], [50]
    ),
    "ChainedScheduler": lambda o: L.ChainedScheduler(
        [L.LinearLR(o, 0.1, 1, 50), L.ExponentialLR(o, 0.99)]
    ),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))


def batches(steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same few batches again and again, of a smooth function with noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCHES, BATCH, 8)).astype("f4")
    y = np.sin(x[..., :4] + x[..., 4:]) + 0.1 * random.normal(size=(BATCHES, BATCH, 4))
    return [(x[i % BATCHES], y[i % BATCHES].astype("f4")) for i in range(steps)]


def compiled_weights(name: str, data: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    model = network()
    step = hearth.TrainStep(
        model, loss=nn.MSELoss(), optimizer=OPTIMIZERS[name](parameter_groups(model))
    )
    bundle = hearth.compile(step, torch.zeros(2, 8), torch.zeros(2, 4), backends=["wasm"])
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(folder, runtime=False)
        with hearth.open_runner(folder, "wasm") as runner:
            runner.train_many([((x,), (y,)) for x, y in data])
            return dict(runner.export_weights())


def torch_weights(
    name: str, data: list[tuple[np.ndarray, np.ndarray]], dtype: torch.dtype
) -> dict[str, Any]:
    model = network().to(dtype)
    optimizer = OPTIMIZERS[name](parameter_groups(model))
    # Muon rounds to bfloat16 inside, Hearth does not: both are compared in the type they train in.
    with mock.patch.object(torch.Tensor, "bfloat16", lambda x: x):
        for x, y in data:
            optimizer.zero_grad()
            outputs, targets = model(torch.tensor(x).to(dtype)), torch.tensor(y).to(dtype)
            loss: Any = nn.functional.mse_loss(outputs, targets)
            loss.backward()
            optimizer.step()
    return {n: p.detach().numpy() for n, p in model.named_parameters()}


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    return max(float(np.abs(found[n] - w).max() / np.abs(w).max()) for n, w in wanted.items())


def optimizer_rows(names: Iterable[str], steps: int) -> list[str]:
    rows = ["| optimizer | Hearth | PyTorch float32 |", "|---|--:|--:|"]
    data = batches(steps)
    for name in names:
        exact = torch_weights(name, data, torch.float64)
        ours = difference(compiled_weights(name, data), exact)
        theirs = difference(torch_weights(name, data, torch.float32), exact)
        rows.append(f"| {name} | {ours:.1e} | {theirs:.1e} |")
        print(rows[-1], flush=True)
    return rows


def schedule_rows(steps: int) -> list[str]:
    rows = ["| scheduler | difference |", "|---|--:|"]
    for name, make in SCHEDULES.items():
        optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
        recorded = learning_rates(Schedule(make(optimizer), "step", steps))
        alive = torch.optim.SGD(network().parameters(), lr=0.1)
        scheduler = make(alive)
        worst = 0.0
        for step in range(steps):
            row = recorded[min(step, len(recorded) - 1)]
            worst = max(worst, abs(float(row[0]) - float(alive.param_groups[0]["lr"])))
            alive.step()
            if step < steps - 1:
                scheduler.step()
        rows.append(f"| {name} | {worst:.0e} |" if worst else f"| {name} | 0 |")
        print(rows[-1], flush=True)
    return rows


def write(name: str, rows: list[str]) -> None:
    """Replaces the measured table of that name in the page."""
    begin, end = MARKS[0].format(name), MARKS[1]
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(before + "\n".join([begin, *rows, end]) + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of optimizers; default: all")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in OPTIMIZERS]
    if unknown:
        parser.error(f"there is no optimizer {unknown[0]!r}; there are {', '.join(OPTIMIZERS)}")
    optimizers = optimizer_rows(options.names or OPTIMIZERS, options.steps)
    if not options.names and options.steps == parser.get_default("steps"):
        write("optimizers", optimizers)
        write("schedules", schedule_rows(options.steps))


if __name__ == "__main__":
    main()

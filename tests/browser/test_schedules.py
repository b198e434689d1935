"""Learning rates in a real Chromium, of the page's own forms and of a compiled scheduler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from torch import nn
from torch.optim import lr_scheduler as schedulers

import hearth
from tests.browser.pages import attempt
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

STEPS = 1000
BASE = 0.3
L = schedulers
# What a page writes, and what it means in PyTorch.
FORMS: dict[str, Callable[[Any], Any]] = {
    "s.constant({ factor: 0.2, total_iters: 40 })": lambda o: L.ConstantLR(o, 0.2, 40),
    "s.linear({ start_factor: 0.1, total_iters: 77 })": lambda o: L.LinearLR(o, 0.1, 1, 77),
    "s.linear()": L.LinearLR,
    "s.step({ step_size: 30 })": lambda o: L.StepLR(o, 30),
    "s.multiStep({ milestones: [10, 200, 200, 701], gamma: 0.5 })": lambda o: L.MultiStepLR(
        o, [10, 200, 200, 701], 0.5
    ),
    "s.exponential({ gamma: 0.99 })": lambda o: L.ExponentialLR(o, 0.99),
    "s.polynomial({ total_iters: 600, power: 1.7 })": lambda o: L.PolynomialLR(o, 600, 1.7),
    "s.cosineAnnealing({ T_max: 300, eta_min: 0.01 })": lambda o: L.CosineAnnealingLR(o, 300, 0.01),
    "s.cosineAnnealingWarmRestarts({ T_0: 50, T_mult: 2, eta_min: 0.01 })": lambda o: (
        L.CosineAnnealingWarmRestarts(o, 50, 2, 0.01)
    ),
    "s.oneCycle({ max_lr: 0.9, total_steps: 1000 })": lambda o: L.OneCycleLR(
        o, 0.9, 1000, cycle_momentum=False
    ),
    "s.oneCycle({ max_lr: 0.9, total_steps: 1e3, three_phase: true, anneal_strategy: 'linear' })": (
        lambda o: L.OneCycleLR(
            o, 0.9, 1000, three_phase=True, anneal_strategy="linear", cycle_momentum=False
        )
    ),
    "s.sequential([s.linear({ total_iters: 100 }), s.cosineAnnealing({ T_max: 900 })], [100])": (
        lambda o: L.SequentialLR(o, [L.LinearLR(o, 1 / 3, 1, 100), L.CosineAnnealingLR(o, 900)],
                                 [100])
    ),
    "s.chained(s.constant({ total_iters: 20 }), s.exponential({ gamma: 0.995 }))": lambda o: (
        L.ChainedScheduler([L.ConstantLR(o, 1 / 3, 20), L.ExponentialLR(o, 0.995)])
    ),
}  # fmt: skip


def optimizer_at(rate: float = BASE) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=rate)


@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_rates_are_those_of_pytorch(bare_page: Page, form: str) -> None:
    optimizer = optimizer_at()
    scheduler = FORMS[form](optimizer)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < STEPS:
            scheduler.step()
    body = f"""
        const s = hearth.schedules;
        const schedule = s.scheduled({form}, {BASE}, "step");
        return Array.from({{ length: {STEPS} }}, (_, step) => schedule(step, 0));"""
    # PyTorch multiplies its last rate where the closed form takes a power or a cosine anew.
    np.testing.assert_allclose(attempt(bare_page, body), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"mode": "max", "patience": 1, "cooldown": 3, "factor": 0.5},
        {"threshold_mode": "abs", "threshold": 0.2, "patience": 0, "min_lr": 1e-3},
    ],
)
def test_a_plateau_lowers_the_rate_when_pytorch_does(
    bare_page: Page, options: dict[str, Any]
) -> None:
    random = np.random.default_rng(5)
    losses = (2 / (1 + 0.05 * np.arange(200)) + random.normal(size=200) * 0.05).tolist()
    optimizer = optimizer_at()
    scheduler = L.ReduceLROnPlateau(optimizer, **options)
    expected = []
    for loss in losses:
        scheduler.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    found = attempt(
        bare_page,
        """
        const trainer = { learningRate: given.base, history: { validations: [] } };
        let callback = hearth.reduceOnPlateau(given.options);
        return given.losses.map((loss, i) => {
          // Half way the run is resumed: a new callback finds the history.
          if (i === 100) callback = hearth.reduceOnPlateau(given.options);
          const event = { kind: "validation", epoch: i, step: i, loss, metrics: {} };
          trainer.history.validations.push(event);
          callback.on(event, trainer);
          return [trainer.learningRate].flat()[0];
        });""",
        {"losses": losses, "options": options, "base": BASE},
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(set(expected)) > 2


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_compiled_scheduler_drives_fit_as_it_drives_pytorch(
    bare_page: Page, served: Site, tmp_path: Path, interval: Any
) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.02}]
    optimizer = torch.optim.Adam(groups, lr=0.1)
    scheduler = L.SequentialLR(
        optimizer, [L.LinearLR(optimizer, 0.2, 1, 3), L.ExponentialLR(optimizer, 0.8)], [3]
    )
    loss = nn.CrossEntropyLoss()
    schedule = hearth.Schedule(scheduler, interval, length=50)
    step = hearth.TrainStep(model, loss, optimizer, scheduler=schedule)
    hearth.compile(step, x[:5], y[:5], backends=("wasm",)).save(tmp_path / "bundle")
    served.add_folder("/scheduled/", tmp_path / "bundle")
    body = """
        const trainer = await Trainer.load("/scheduled/", { backend: "wasm", threads: 1 });
        const x = Float32Array.from(given.x), y = Int32Array.from(given.y);
        const dataset = new hearth.ArrayDataset({ x, y, samples: 20 });
        const loader = new hearth.DataLoader(dataset, { batchSize: 5 });
        const found = [];
        for await (const event of trainer.fit(loader, { epochs: 6 })) {
          if (event.kind === "steps") {
            found.push(...event.steps.map((s) => [s.learningRate, s.loss]));
          }
        }
        return found;"""
    given = {"x": x.ravel().tolist(), "y": y.tolist()}
    found = np.array(attempt(bare_page, body, given))
    expected = []
    for _ in range(6):
        for i in range(4):
            optimizer.zero_grad()
            value = loss(model(x[5 * i : 5 * i + 5]), y[5 * i : 5 * i + 5])
            expected.append((optimizer.param_groups[0]["lr"], float(value.detach())))
            value.backward()
            optimizer.step()
            if interval == "step":
                scheduler.step()
        if interval == "epoch":
            scheduler.step()
    np.testing.assert_array_equal(found[:, 0], [rate for rate, _ in expected])
    np.testing.assert_allclose(found[:, 1], [value for _, value in expected], rtol=1e-5)

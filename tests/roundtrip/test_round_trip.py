"""A run goes from PyTorch into the browser and back, and every weight arrives as it should.

The oracle is one run that never leaves PyTorch (float64).  The optimizers keep different state:
none, one vector, two vectors and a count, and a maximum of squares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.runtime.chromium import ChromiumTrainer

STEPS, BATCH = 4, 12
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01),
    "amsgrad": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, momentum=0.5, centered=True),
}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 10)
        self.norm = nn.BatchNorm1d(10)
        self.out = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.norm(self.hidden(x))))


def build(kind: str) -> tuple[Model, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Model()
    groups: list[dict[str, Any]] = [
        {"params": [model.out.weight, model.out.bias, *model.norm.parameters()], "lr": 0.02},
        {"params": model.hidden.parameters(), "weight_decay": 0.01},
    ]
    return model, OPTIMIZERS[kind](groups)


def data() -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        (random.normal(size=(BATCH, 6)).astype("f4"), random.integers(0, 3, BATCH))
        for _ in range(3 * STEPS)
    ]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
    dtype = next(model.parameters()).dtype
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.from_numpy(x).to(dtype)), torch.tensor(y))
        loss.backward()
        optimizer.step()


@pytest.mark.chromium
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_continues_in_the_browser_and_then_in_pytorch(kind: str, tmp_path: Path) -> None:
    batches = data()
    first, middle, last = batches[:STEPS], batches[STEPS : 2 * STEPS], batches[2 * STEPS :]

    model, optimizer = build(kind)
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    hearth.compile(step, torch.zeros(2, 6), torch.zeros(2).long(), backends=["wasm"]).save(
        tmp_path / "dist"
    )
    train(model, optimizer, first)
    hearth.save_checkpoint(tmp_path / "out", model, optimizer, step=STEPS)
    with ChromiumTrainer(tmp_path / "dist", "wasm", threads=1) as browser:
        browser.load_checkpoint((tmp_path / "out").read_bytes())
        assert browser.step == STEPS
        assert browser.learning_rate == (0.02, optimizer.param_groups[1]["lr"])
        browser.train_many([((x,), (y,)) for x, y in middle])
        (tmp_path / "home").write_bytes(browser.export_checkpoint())

    loaded = hearth.load_checkpoint(tmp_path / "home")
    assert loaded.step == 2 * STEPS
    home, home_optimizer = build(kind)
    home.load_state_dict(loaded.model)
    home_optimizer.load_state_dict(loaded.optimizer)
    train(home, home_optimizer, last)

    exact, exact_optimizer = build(kind)
    train(exact.double(), exact_optimizer, batches)
    plain, plain_optimizer = build(kind)
    train(plain, plain_optimizer, batches)
    for name, expected in exact.state_dict().items():
        ours, float32 = home.state_dict()[name].double(), plain.state_dict()[name].double()
        scale = expected.double().abs().max().clamp(min=1e-12)
        allowed = 4 * (float32 - expected).abs().max() / scale + 1e-5
        error = (ours - expected).abs().max() / scale
        assert error <= allowed, f"{name}: {error:.1e} > {allowed:.1e}"


@pytest.mark.chromium
def test_untouched_weights_come_back_byte_for_byte_in_both_forms(tmp_path: Path) -> None:
    model, optimizer = build("adamw")
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    folder = tmp_path / "dist"
    hearth.compile(step, torch.zeros(2, 6), torch.zeros(2).long(), backends=["wasm"]).save(folder)
    hearth.save_weights(model.state_dict(), tmp_path / "w.safetensors")
    original = (tmp_path / "w.safetensors").read_bytes()
    assert (folder / "weights.safetensors").read_bytes() == original
    with ChromiumTrainer(folder, "wasm") as browser:
        assert browser.export_weights_file() == original
        text = browser.export_weights_file("json")
        browser.train_many([((x,), (y,)) for x, y in data()])
        assert browser.export_weights_file() != original
        browser.load_weights_file(text)
        assert browser.export_weights_file() == original
        for precision in ("float16", "int8"):
            hearth.save_weights(model.state_dict(), tmp_path / "small", precision=precision)
            browser.load_weights_file((tmp_path / "small").read_bytes())
            small = hearth.load_weights(tmp_path / "small")
            for name, array in browser.export_weights().items():
                np.testing.assert_array_equal(array, small[name].numpy(), err_msg=name)
    (tmp_path / "w.json").write_bytes(text)
    loaded = hearth.load_weights(tmp_path / "w.json", like=model.state_dict())
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())

"""Optimizers that see a parameter as a whole (Muon and its like) are traced in its own shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.optim import Lion, proximal_l1
from hearth.steps.optimizer import capture_optimizer

STEPS = 6
NO_BFLOAT16 = mock.patch.object(torch.Tensor, "bfloat16", lambda x: x)


class NormScaled(torch.optim.SGD):
    """The gradient of each parameter by its norm, as LARS and LAMB do."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                with torch.no_grad():
                    p.sub_(group["lr"] * p.grad / p.grad.norm())


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.dim() == 2]


OPTIMIZERS = {
    "muon": lambda m: torch.optim.Muon(matrices(m), lr=0.02, weight_decay=0.1),
    "norm scaled": lambda m: NormScaled(m.parameters(), lr=0.1),
    "lion": lambda m: Lion(m.parameters(), lr=0.01, weight_decay=0.1),
    "proximal": lambda m: proximal_l1(torch.optim.AdamW)(m.parameters(), lr=0.01, l1=0.5),
}


def build(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 14), nn.Tanh(), nn.Linear(14, 3))
    return model, OPTIMIZERS[kind](model)


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        (random.normal(size=(8, 5)).astype("f4"), random.normal(size=(8, 3)).astype("f4"))
        for _ in range(STEPS)
    ]


def train(kind: str, dtype: torch.dtype) -> tuple[nn.Module, torch.optim.Optimizer]:
    model, optimizer = build(kind)
    model.to(dtype)
    with NO_BFLOAT16:
        for x, y in batches():
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(
                model(torch.tensor(x).to(dtype)), torch.tensor(y).to(dtype)
            )
            loss.backward()
            optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("device", ["reference", pytest.param("wasm", marks=pytest.mark.wasm)])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_weights_and_state_after_some_steps_are_pytorchs(
    kind: str, device: str, tmp_path: Path
) -> None:
    model, optimizer = build(kind)
    step = hearth.TrainStep(model, loss=nn.MSELoss(), optimizer=optimizer)
    compiled = hearth.compile(step, torch.zeros(2, 5), torch.zeros(2, 3), backends=["wasm"])
    compiled.save(tmp_path / "dist", runtime=False)
    with hearth.open_runner(tmp_path / "dist", device) as runner:
        runner.train_many([((x,), (y,)) for x, y in batches()])
        state = runner.export_state()
    exact, exact_optimizer = train(kind, torch.float64)
    plain, _ = train(kind, torch.float32)
    for name, wanted in exact.state_dict().items():
        scale = wanted.abs().max()
        float32 = (plain.state_dict()[name] - wanted).abs().max() / scale
        error = (torch.tensor(state[name]) - wanted).abs().max() / scale
        assert error <= 4 * float32 + 1e-6, f"{name}: {error:.1e} > 4 · {float32:.1e}"
    for name, parameter in exact.named_parameters():
        for key, value in exact_optimizer.state.get(parameter, {}).items():
            ours = state[f"{key}/{name}"]
            np.testing.assert_allclose(ours, value.detach().numpy(), rtol=2e-3, atol=1e-4)


def test_only_what_needs_its_shape_is_traced_by_parameter() -> None:
    for kind, tensors in {"muon": 2, "norm scaled": 4, "lion": 1, "proximal": 1}.items():
        model, optimizer = build(kind)
        step = hearth.TrainStep(model, loss=nn.MSELoss(), optimizer=optimizer)
        program = capture_optimizer(step, step.trainable)
        assert len(program.groups[0].tensors) == tensors, kind
        assert program.groups[0].is_flat == (tensors == 1), kind


def test_the_soft_threshold_gives_exact_zeros(tmp_path: Path) -> None:
    model, optimizer = build("proximal")
    step = hearth.TrainStep(model, loss=nn.MSELoss(), optimizer=optimizer)
    hearth.compile(step, torch.zeros(2, 5), torch.zeros(2, 3), backends=["wasm"]).save(
        tmp_path / "dist", runtime=False
    )
    with hearth.open_runner(tmp_path / "dist", "reference") as runner:
        runner.train_many([((x,), (y,)) for x, y in batches() * 10])
        weights = runner.export_weights()
    zeros = sum(int((array == 0).sum()) for array in weights.values())
    assert zeros > 50


@pytest.mark.wasm
def test_they_accumulate_and_can_be_looked_into(tmp_path: Path) -> None:
    model, optimizer = build("norm scaled")
    step = hearth.TrainStep(model, loss=nn.MSELoss(), optimizer=optimizer, accumulate=True)
    compiled = hearth.compile(
        step, torch.zeros(2, 5), torch.zeros(2, 3), backends=["wasm"], inspect=True
    )
    compiled.save(tmp_path / "dist", runtime=False)
    parts = batches()[:2]
    for x, y in parts:
        (nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(y)) / 2).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    with hearth.open_runner(tmp_path / "dist", "wasm") as runner:
        seen = runner.inspect((parts[0][0],), (parts[0][1],))
        for x, y in parts:
            runner.accumulate_batch((x,), (y,))
        runner.apply_gradients()
        weights = runner.export_weights()
    assert [view.name for view in seen.parameters] == list(gradients)
    for view in seen.parameters:
        wanted = 0.1 / float(view.value.norm)  # each update has the norm of the rate
        assert view.ratio == pytest.approx(wanted, rel=1e-3), view.name
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(weights[name], parameter.detach(), rtol=1e-4, atol=1e-6)

"""Penalties and groups: what regularisation adds, and what it spares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.optim import ElasticNet, parameter_groups, proximal_l1, soft_threshold


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.wasm
def test_a_penalty_is_part_of_the_loss_its_gradient_and_verify(tmp_path: Path) -> None:
    model = network()
    penalty = ElasticNet(l1=0.01, l2=0.03)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer, penalty=penalty)
    compiled = hearth.compile(
        step, torch.zeros(2, 4), torch.zeros(2, dtype=torch.long), backends=["wasm"]
    )
    compiled.save(tmp_path / "dist", runtime=False)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    y = np.arange(6) % 2
    with hearth.open_runner(tmp_path / "dist", "wasm") as runner:
        found = runner.gradients((x,), (y,))
        result = runner.train_batch((x,), (y,))
        evaluated = runner.evaluate_batch((x,), (y,))
    data_loss = nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
    weights = [model[0].weight, model[3].weight]
    total = sum(0.01 * w.abs().sum() + 0.03 * w.square().sum() for w in weights)
    (data_loss + total).backward()
    assert result.loss == pytest.approx((data_loss + total).item(), rel=1e-5)
    assert result.metrics["penalty"] == pytest.approx(total.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(found.gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert evaluated.loss != pytest.approx((data_loss + total).item(), rel=1e-3)
    assert hearth.verify(compiled, runner="wasm", cases=3).ok


def test_groups_spare_biases_and_norms() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    weights, rest = parameter_groups(model, weight_decay=0.1, betas=(0.8, 0.9))
    assert weights["params"] == [model[3].weight]
    assert len(rest["params"]) == 4
    assert (weights["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert rest["betas"] == (0.8, 0.9)
    torch.optim.AdamW([weights, rest])


def test_the_soft_threshold_is_the_proximal_operator() -> None:
    x = torch.linspace(-2, 2, 401, dtype=torch.float64)
    ours = soft_threshold(x, 0.5)
    grid = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    objective = 0.5 * (grid[None] - x[:, None]).square() + 0.5 * grid[None].abs()
    torch.testing.assert_close(ours, grid[objective.argmin(1)], rtol=0, atol=6e-4)


def test_a_soft_threshold_per_group_leaves_biases_alone() -> None:
    model = network()
    optimizer = proximal_l1(torch.optim.SGD)(parameter_groups(model, l1=100.0), lr=0.1)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, torch.zeros_like(p) if p.dim() == 2 else before[name]), name


def test_a_penalty_that_is_no_scalar_or_no_function_is_refused() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(hearth.InvalidInputError, match="penalty is a float and cannot be called"):
        hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer, penalty=0.1)  # type: ignore[arg-type]
    step = hearth.TrainStep(
        model, nn.CrossEntropyLoss(), optimizer, penalty=lambda p: p["0.weight"].abs()
    )
    with pytest.raises(hearth.CaptureError, match="the penalty is not a scalar"):
        hearth.compile(step, torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))

"""What users bring without thinking of a compiler: it compiles, and agrees with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import hearth

LABELS = torch.arange(4) % 3


class MakesItsOwnState(nn.Module):
    """A float32 tensor born in forward, as in a recurrent network by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(5 + 4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.size(0), 4)
        for _ in range(2):
            h = torch.tanh(self.cell(torch.cat([x, h], 1)))
        return self.head(h)


def dense(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), *middle, nn.Linear(6, 3))


def step_of(model: nn.Module, loss: object = None) -> hearth.TrainStep:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    return hearth.TrainStep(model, loss or nn.CrossEntropyLoss(), optimizer)


def assert_verified(step: hearth.TrainStep) -> None:
    bundle = hearth.compile(step, torch.zeros(4, 5), LABELS, backends=["wasm"])
    report = hearth.verify(bundle, "wasm", cases=2, step=step)
    assert report.ok, str(report)


@pytest.mark.wasm
def test_a_model_may_make_float32_tensors() -> None:
    assert_verified(step_of(MakesItsOwnState()))


@pytest.mark.wasm
def test_a_loss_may_close_over_class_weights() -> None:
    weight = torch.tensor([1.0, 2.0, 0.5])
    assert_verified(step_of(dense(nn.ReLU()), lambda o, y: cross_entropy(o, y, weight=weight)))


@pytest.mark.wasm
def test_an_optimizer_that_has_stepped_goes_on_where_it_is() -> None:
    model = dense(nn.ReLU(), nn.Dropout(0.5))
    step = step_of(model)
    for _ in range(3):
        cross_entropy(model(torch.randn(4, 5)), LABELS).backward()
        step.optimizer.step()
        step.optimizer.zero_grad()
    assert_verified(step)


@pytest.mark.wasm
def test_batch_norm_over_rows_is_verified_with_batches_it_can_normalize() -> None:
    assert_verified(step_of(dense(nn.BatchNorm1d(6))))


@pytest.mark.wasm
def test_a_last_batch_of_one_leaves_finite_running_statistics(tmp_path: object) -> None:
    bundle = hearth.compile(
        step_of(dense(nn.BatchNorm1d(6))), torch.zeros(4, 5), LABELS, backends=["wasm"]
    )
    bundle.save(f"{tmp_path}/bundle", runtime=False)
    runner = hearth.open_runner(f"{tmp_path}/bundle", "wasm")
    rows = np.ones((1, 5), np.float32)
    assert np.isfinite(runner.train_batch((rows,), (np.zeros(1, np.int64),)).loss)
    assert all(np.isfinite(w).all() for w in runner.export_weights().values())
    runner.close()


def test_a_model_on_another_device_is_refused_with_the_remedy() -> None:
    with torch.device("meta"):
        model = nn.Linear(5, 3)
    with pytest.raises(hearth.InvalidInputError, match=r"weight is on meta(.|\n)*model\.cpu"):
        step_of(model)


def test_a_loss_of_positive_outputs_still_records_a_golden_step() -> None:
    step = step_of(nn.Sequential(nn.Linear(5, 3)), lambda o, y: (o.abs().log() - y).square().mean())
    bundle = hearth.compile(step, torch.zeros(4, 5), torch.zeros(4, 3), backends=["wasm"])
    assert bundle.manifest.golden is not None


def test_a_loss_that_is_never_finite_is_compiled_without_a_golden_step() -> None:
    step = step_of(
        nn.Sequential(nn.Linear(5, 3)), lambda o, y: (-o.abs() - 1).log().sum() + y.sum()
    )
    with pytest.warns(UserWarning, match="no golden step"):
        bundle = hearth.compile(step, torch.zeros(4, 5), torch.zeros(4, 3), backends=["wasm"])
    assert bundle.manifest.golden is None


class ReturnsBytes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        o = self.head(x)
        return o, (o > 0).to(torch.uint8)


def test_check_reports_outputs_that_a_program_cannot_return() -> None:
    step = step_of(ReturnsBytes(), lambda outputs, y: cross_entropy(outputs[0], y))
    report = hearth.check(step, torch.zeros(4, 5), LABELS)
    assert not report.ok
    assert "uint8" in str(report)

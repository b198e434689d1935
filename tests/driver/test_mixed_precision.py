"""Mixed steps against PyTorch float64; PyTorch's error under autocast is the yardstick."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import hearth
from hearth import TrainStep

Model = Callable[[], tuple[nn.Module, tuple[int, ...]]]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.block = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.embed(x)).mean(1))


def mlp() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)), (20,)


def cnn() -> tuple[nn.Module, tuple[int, ...]]:
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    head = (nn.Linear(36, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
    return nn.Sequential(*layers, *head), (1, 8, 8)


def attention() -> tuple[nn.Module, tuple[int, ...]]:
    return Attention(), (5, 6)


def step_of(make: Model, precision: str) -> tuple[TrainStep, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model, shape = make()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    step = TrainStep(model, nn.CrossEntropyLoss(), optimizer, precision=precision)
    return step, torch.zeros(1, *shape), torch.zeros(1, dtype=torch.long)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("make", [mlp, cnn, attention])
def test_a_mixed_step_errs_as_pytorch_under_autocast(make: Model, precision: str) -> None:
    compiled = hearth.compile(*step_of(make, precision), backends=["wasm"])
    assert compiled.manifest.precision == precision
    for runner in ("reference", "wasm"):
        report = hearth.verify(compiled, runner, cases=2)
        assert report.ok, str(report)

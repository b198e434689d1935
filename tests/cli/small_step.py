"""A small training step for the command line: three classes of points in the plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import hearth

STEP: Final = Path(__file__)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.hidden(x)))


class Fancy(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_exp(super().forward(x)[:, None] * torch.eye(3)).sum(1)


def small() -> Any:
    torch.manual_seed(0)
    return step(Small())


def pictures() -> Any:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    return step(model, torch.zeros(2, 1, 4, 4))


def unsupported() -> Any:
    return step(Fancy())


def wrong() -> int:
    return 3


def step(model: nn.Module, inputs: torch.Tensor | None = None) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    train_step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    inputs = torch.zeros(2, 2) if inputs is None else inputs
    return train_step, inputs, torch.zeros(2, dtype=torch.long)

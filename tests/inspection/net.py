"""A model that is hard to look into, and what PyTorch's hooks see in it in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import hearth
from hearth.runtime.inspection import Summary

TOLERANCE = 2.0**-13


class Net(nn.Module):
    """In-place and functional ReLUs, a module called twice, one that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
        self.pair = Pair()
        self.act = nn.Tanh()
        self.hidden = nn.Linear(16, 16)
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.pair(self.features(x).flatten(1))
        x = self.act(self.hidden(F.relu(a) + b))
        return self.last(self.act(self.hidden(x)))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(16, 32)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.both(x).chunk(2, 1)
        return a, b


def step_of(model: nn.Module) -> hearth.TrainStep:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    return hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)


def net_step() -> hearth.TrainStep:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.features[0].bias[1] = -100.0  # dead
        model.hidden.bias[5] = 100.0  # saturated
    return step_of(model)


EXAMPLE = (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.long))


def batch(size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 1, 4, 4, generator=generator), torch.arange(size) % 3


def by_hooks(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Every output and its gradient, in float64, by name; the model must not work in place."""
    model = copy.deepcopy(model).double()
    model.features[1].inplace = False
    seen: dict[str, list[torch.Tensor]] = {}

    def hook(name: str) -> Any:
        def note(_module: nn.Module, _given: Any, output: Any) -> None:
            for i, tensor in enumerate(output if isinstance(output, tuple) else (output,)):
                tensor.retain_grad()
                label = f"{name}[{i}]" if isinstance(output, tuple) else name
                seen.setdefault(label, []).append(tensor)

        return note

    for name, module in model.named_modules():
        module.register_forward_hook(hook(name))
    F.cross_entropy(model(x.double()), y).backward()
    return seen


NAMES = {  # ours: PyTorch's name and call
    "features.0": ("features.0", 0),
    "features.1": ("features.1", 0),
    "pair.both": ("pair.both", 0),
    "pair[0]": ("pair[0]", 0),
    "pair[1]": ("pair[1]", 0),
    "hidden#1": ("hidden", 0),
    "act#1": ("act", 0),
    "hidden#2": ("hidden", 1),
    "act#2": ("act", 1),
    "last": ("last", 0),
}


def assert_describes(summary: Summary, tensor: torch.Tensor) -> None:
    want = tensor.detach().double().flatten()
    scale = max(want.abs().max().item(), 1e-30)
    expected = {
        "mean": want.mean(), "std": want.std(correction=0), "min": want.min(), "max": want.max(),
        "norm": want.norm(),
    }  # fmt: skip
    for name, value in expected.items():
        close = pytest.approx(value.item(), rel=TOLERANCE, abs=TOLERANCE * scale)
        assert getattr(summary, name) == close, name
    assert (summary.nan, summary.inf) == (0, 0)
    assert summary.zeros == pytest.approx((want == 0).double().mean().item(), abs=1e-6)
    assert summary.limit / 2 < scale * (1 + TOLERANCE)
    assert scale <= summary.limit * (1 + TOLERANCE)
    counts, _ = np.histogram(want, 64, (-summary.limit, summary.limit))
    assert summary.histogram.sum() == len(want)
    # A value that rounding moves over an edge changes two bins by one.
    assert np.abs(np.cumsum(summary.histogram - counts)).max() <= max(1, len(want) // 100)

"""What most architectures share: an optimizer, cross-entropy and an example batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hearth import TrainStep

Example = tuple[TrainStep, Any, Any]
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

BATCH = 3  # compiled with; verification runs other sizes
CLASSES = 5


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 2e-3, momentum=0.9, weight_decay=5e-4)


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """eps is above the rounding noise of gradients that are zero, such as a key's bias."""
    return torch.optim.AdamW(parameters, 2e-3, eps=1e-5, weight_decay=0.05)


def classification(
    model: nn.Module, inputs: torch.Tensor, optimizer: Optimizer = sgd, **options: Any
) -> Example:
    """A step that learns one of `CLASSES` classes for every row of `inputs`."""
    trained = [p for p in model.parameters() if p.requires_grad]
    step = TrainStep(model, nn.CrossEntropyLoss(), optimizer(trained), **options)
    return step, inputs, torch.arange(len(inputs)) % CLASSES

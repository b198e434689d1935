"""The training steps of the MNIST examples, for `hearth compile examples/mnist.py:mlp`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import hearth

sys.path.insert(0, str(Path(__file__).parent))
from models import LeNet5, MnistCNN, MnistMLP

Step = tuple["hearth.TrainStep", torch.Tensor, torch.Tensor]


def mlp() -> Step:
    """784-128-10, AdamW."""
    return _step(MnistMLP, torch.zeros(2, 784))


def lenet5() -> Step:
    """LeNet-5 with ReLU, AdamW."""
    return _step(LeNet5, torch.zeros(2, 1, 28, 28))


def cnn() -> Step:
    """Two convolutions with BatchNorm and Dropout, AdamW."""
    return _step(MnistCNN, torch.zeros(2, 1, 28, 28))


def _step(kind: type[nn.Module], images: torch.Tensor) -> Step:
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    return step, images, torch.zeros(len(images), dtype=torch.long)

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
    """784-128-10, AdamW.  A step is so short that its accuracy would add 4 % (WebAssembly)."""
    return _step(MnistMLP, torch.zeros(2, 784))


def lenet5() -> Step:
    """LeNet-5 with ReLU, AdamW; tells its accuracy on every training batch."""
    return _step(LeNet5, torch.zeros(2, 1, 28, 28), training_metrics=True)


def cnn() -> Step:
    """Two convolutions with BatchNorm and Dropout, AdamW; tells its accuracy, too."""
    return _step(MnistCNN, torch.zeros(2, 1, 28, 28), training_metrics=True)


def _step(kind: type[nn.Module], images: torch.Tensor, *, training_metrics: bool = False) -> Step:
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = hearth.TrainStep(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        training_metrics=training_metrics,
    )
    return step, images, torch.zeros(len(images), dtype=torch.long)

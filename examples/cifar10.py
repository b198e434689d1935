"""A small network for CIFAR-10 that trains with augmentation and a one-cycle schedule.

    hearth compile examples/cifar10.py:cnn -o dist/

The page gives the bytes of the images as they are in the files (`Uint8Array`, 3 planes of 32×32)
and the labels; `trainer.fit(loader, { epochs: 6 })` does the rest.  bench/cifar10_accuracy.py
trains it in Chromium and in PyTorch.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

import hearth
from hearth.functions.augmentation import Compose, Normalize, from_bytes
from hearth.functions.color import color_jitter
from hearth.functions.geometry import random_crop, random_flip

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the 50,000 training images
BATCH, EPOCHS, IMAGES = 64, 6, 20_000

# Training only.  What it leaves are floats from 0 to 1; the model normalizes them, or bytes.
augmentation = Compose(
    [
        from_bytes,
        partial(random_crop, padding=4, mode="reflect"),
        random_flip,
        partial(color_jitter, brightness=0.2, contrast=0.2, saturation=0.2),
    ]
)


class CifarCNN(nn.Sequential):
    """Four 3×3 convolutions with BatchNorm, 165,000 parameters."""

    def __init__(self) -> None:
        super().__init__(
            Normalize(MEAN, STD),
            *_block(3, 24), nn.MaxPool2d(2),
            *_block(24, 48), nn.MaxPool2d(2),
            *_block(48, 96), nn.MaxPool2d(2),
            *_block(96, 128), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 10),
        )  # fmt: skip


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def cnn(epochs: int = EPOCHS, images: int = IMAGES, batch: int = BATCH) -> tuple[
    hearth.TrainStep, torch.Tensor, torch.Tensor
]:  # fmt: skip
    """The training step for so many epochs over so many images, without a ragged last batch."""
    torch.manual_seed(0)
    model = CifarCNN()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.006, total_steps=epochs * (images // batch), cycle_momentum=False
    )
    step = hearth.TrainStep(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=hearth.Schedule(scheduler, "step", length=epochs * (images // batch)),
        augmentation=augmentation,
    )
    return step, torch.zeros(1, 3, 32, 32, dtype=torch.int32), torch.zeros(1, dtype=torch.long)

"""Models whose output is an image: U-Nets, an autoencoder, a variational autoencoder."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hearth import TrainStep
from tests.architectures.classification import BATCH, CLASSES, Example

SIZE = 12


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def doubling(kind: str, inputs: int, outputs: int) -> nn.Module:
    """Doubles height and width: by a transposed convolution or by interpolation."""
    if kind == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
    align = {"align_corners": True} if kind == "bilinear" else {}
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode=kind, **align), nn.Conv2d(inputs, outputs, 1)
    )


class UNet(nn.Module):
    """Ronneberger et al. 2015: what the way down has seen is concatenated on the way up."""

    def __init__(self, kind: str, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.stem = double_convolution(1, widths[0])
        self.down = nn.ModuleList(double_convolution(a, b) for a, b in pairs)
        self.enlarge = nn.ModuleList(doubling(kind, b, a) for a, b in reversed(pairs))
        self.up = nn.ModuleList(double_convolution(2 * a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [self.stem(x)]
        for down in self.down:
            seen.append(down(F.max_pool2d(seen[-1], 2)))
        x = seen.pop()
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            x = up(torch.cat([seen.pop(), enlarge(x)], dim=1))
        return self.head(x)


def dice_and_cross_entropy(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus the soft Dice loss of Milletari et al. 2016."""
    predicted = torch.sigmoid(logits)
    shared = 2 * (predicted * wanted).sum((1, 2, 3)) + 1
    dice = shared / (predicted.sum((1, 2, 3)) + wanted.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, wanted) + (1 - dice).mean()


def segmentation(kind: str) -> Example:
    """One of `CLASSES` classes for every pixel."""
    model = UNet(kind, CLASSES, widths=(4, 8, 12))
    step = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.05, 0.9))
    labels = torch.randint(0, CLASSES, (BATCH, SIZE, SIZE))
    return step, torch.randn(BATCH, 1, SIZE, SIZE), labels


def unet_transposed() -> Example:
    model = UNet("transposed", 1, widths=(4, 8, 12))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    mask = torch.randint(0, 2, (BATCH, 1, SIZE, SIZE)).float()
    step = TrainStep(model, dice_and_cross_entropy, optimizer)
    return step, torch.randn(BATCH, 1, SIZE, SIZE), mask


def unet_bilinear() -> Example:
    return segmentation("bilinear")


def unet_nearest() -> Example:
    return segmentation("nearest")


class Autoencoder(nn.Module):
    """A convolutional autoencoder: stride 2 down, transposed convolutions with padding up."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(8 * 3 * 3, 10),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(10, 8 * 3 * 3), nn.ELU(), nn.Unflatten(1, (8, 3, 3)),
            nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1), nn.ELU(),
            nn.ConvTranspose2d(6, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


def autoencoder() -> Example:
    model = Autoencoder()
    step = TrainStep(model, nn.MSELoss(), torch.optim.Adam(model.parameters(), 2e-3))
    return step, torch.randn(BATCH, 1, SIZE, SIZE), torch.rand(BATCH, 1, SIZE, SIZE)


class VariationalAutoencoder(nn.Module):
    """Kingma and Welling 2013: the code is drawn anew in every step, by reparametrisation."""

    def __init__(self, pixels: int = 36, hidden: int = 24, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.Softplus())
        self.moments = nn.Linear(hidden, 2 * code)
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden), nn.Softplus(), nn.Linear(hidden, pixels)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_variance = self.moments(self.encoder(x.flatten(1))).chunk(2, dim=1)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(code).view_as(x), mean, log_variance


def evidence_lower_bound(outputs: Any, wanted: torch.Tensor) -> torch.Tensor:
    logits, mean, log_variance = outputs
    reconstruction = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum()
    return (reconstruction + divergence) / len(wanted)


def variational_autoencoder() -> Example:
    model = VariationalAutoencoder()
    step = TrainStep(model, evidence_lower_bound, torch.optim.Adam(model.parameters(), 1e-3))
    return step, torch.rand(BATCH, 1, 6, 6), torch.rand(BATCH, 1, 6, 6)

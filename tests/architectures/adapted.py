"""Norms other than BatchNorm, adapters on a frozen model, several inputs and outputs."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hearth import TrainStep
from tests.architectures.classification import (
    BATCH,
    CLASSES,
    Example,
    adamw,
    classification,
)


def normalized_by(norm: nn.Module) -> Example:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3), nn.Mish(), nn.Flatten(), nn.Linear(8 * 3 * 3, CLASSES),
    )  # fmt: skip
    return classification(model, torch.randn(BATCH, 3, 10, 10))


def group_norm() -> Example:
    return normalized_by(nn.GroupNorm(4, 8))


def instance_norm() -> Example:
    return normalized_by(nn.InstanceNorm2d(8, affine=True))


class GatedBlock(nn.Module):
    """The feed-forward block of Touvron et al. 2023: RMSNorm and SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def rms_norm() -> Example:
    model = nn.Sequential(GatedBlock(14, 20), GatedBlock(14, 20), nn.Linear(14, CLASSES))
    return classification(model, torch.randn(BATCH, 14), adamw)


class LowRank(nn.Module):
    """Hu et al. 2021: a frozen linear layer and a trained correction of low rank."""

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, frozen.in_features))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x) + self.scale * F.linear(F.linear(x, self.down), self.up)


def lora() -> Example:
    """BatchNorm and convolution stay frozen, in eval mode; only the corrections train."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 4 * 4, 24), nn.Tanh(), nn.Linear(24, CLASSES),
    ).requires_grad_(False)  # fmt: skip
    model[1].eval()
    for index in (4, 6):
        layer = model[index]
        assert isinstance(layer, nn.Linear)
        model[index] = LowRank(layer, rank=3, alpha=6.0)
    return classification(model, torch.randn(BATCH, 3, 9, 9), adamw)


class Detector(nn.Module):
    """An image, measurements and a category in; a class and a box out."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10)
        )
        self.numbers = nn.Sequential(nn.Linear(4, 10), nn.Tanh())
        self.category = nn.Embedding(6, 10)
        self.mix = nn.Bilinear(10, 10, 12)
        self.kind = nn.Linear(12, CLASSES)
        self.box = nn.Linear(12, 4)

    def forward(
        self, image: torch.Tensor, numbers: torch.Tensor, category: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        side = self.numbers(numbers) + self.category(category)
        mixed = F.softplus(self.mix(self.image(image), side))
        return {"kind": self.kind(mixed), "box": torch.sigmoid(self.box(mixed))}


def detection_loss(
    outputs: dict[str, torch.Tensor], kind: torch.Tensor, box: torch.Tensor
) -> torch.Tensor:
    """The focal loss of Lin et al. 2017 for the class, a smooth distance for the box."""
    chosen = F.log_softmax(outputs["kind"], dim=1).gather(1, kind[:, None])[:, 0]
    focal = -((1 - chosen.exp()) ** 2) * chosen
    return focal.mean() + 2.0 * F.smooth_l1_loss(outputs["box"], box, beta=0.1)


def detector() -> Example:
    model = Detector()
    step = TrainStep(model, detection_loss, torch.optim.RMSprop(model.parameters(), 1e-3))
    inputs = (torch.randn(BATCH, 1, 8, 8), torch.randn(BATCH, 4), torch.arange(BATCH) % 6)
    return step, inputs, (torch.arange(BATCH) % CLASSES, torch.rand(BATCH, 4))

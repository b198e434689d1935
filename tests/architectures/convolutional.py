"""Convolutional image classifiers: residual, depthwise separable, squeeze-and-excite, ConvNeXt.

The smallest image at which BatchNorm still sees several values for one picture is 16×16.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.architectures.classification import (
    BATCH,
    CLASSES,
    Example,
    adamw,
    classification,
    sgd,
)


def images() -> torch.Tensor:
    return torch.randn(BATCH, 3, 16, 16)


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class BasicBlock(nn.Module):
    expansion: ClassVar = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, width, 3, stride)
        self.second = convolution(width, width, 3)
        same = stride == 1 and inputs == width
        self.shortcut = nn.Identity() if same else convolution(inputs, width, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class Bottleneck(nn.Module):
    expansion: ClassVar = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.reduce = convolution(inputs, width, 1)
        self.spatial = convolution(width, width, 3, stride)
        self.expand = convolution(width, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        narrow = F.relu(self.spatial(F.relu(self.reduce(x))))
        return F.relu(self.expand(narrow) + self.shortcut(x))


class ResNet(nn.Module):
    """He et al. 2015 in CIFAR form: a 3×3 stem without pooling; every stage halves the image."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], width: int
    ) -> None:
        super().__init__()
        self.stem = convolution(3, width, 3)
        blocks: list[nn.Module] = []
        inputs = width
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(inputs, width << stage, stride))
                inputs = (width << stage) * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018: expand, filter every channel by itself, project without activation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.layers = nn.Sequential(
            convolution(inputs, wide, 1), nn.ReLU6(),
            convolution(wide, wide, 3, stride, groups=wide), nn.ReLU6(),
            convolution(wide, outputs, 1),
        )  # fmt: skip
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(F.silu(self.squeeze(means))))


class StochasticDepth(nn.Module):
    """Huang et al. 2016: leaves out a residual branch, separately for every row of the batch."""

    def __init__(self, dropped: float) -> None:
        super().__init__()
        self.kept = 1 - dropped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        mask = x.new_empty(len(x), 1, 1, 1).bernoulli_(self.kept)
        return x * mask / self.kept


class MBConv(nn.Module):
    """Tan and Le 2019: an inverted residual with SiLU and squeeze-and-excite."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * 4
        self.layers = nn.Sequential(
            convolution(inputs, wide, 1), nn.SiLU(),
            convolution(wide, wide, kernel, stride, groups=wide), nn.SiLU(),
            SqueezeExcite(wide, inputs // 4),
            convolution(wide, outputs, 1),
        )  # fmt: skip
        self.residual = stride == 1 and inputs == outputs
        self.drop = StochasticDepth(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.layers(x)) if self.residual else self.layers(x)


class ConvNeXtBlock(nn.Module):
    """Liu et al. 2022: 7×7 depthwise, LayerNorm over channels, an MLP, a scale per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))
        self.drop = StochasticDepth(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        last = self.scale * self.project(F.gelu(self.expand(last)))
        return x + self.drop(last.permute(0, 3, 1, 2))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (batch, channels, height, width)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def pooled(channels: int, dropout: float = 0.0) -> list[nn.Module]:
    return [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels, CLASSES),
    ]


def resnet18() -> Example:
    return classification(ResNet(BasicBlock, (2, 2, 2, 2), width=8), images(), sgd)


def bottleneck_resnet() -> Example:
    return classification(ResNet(Bottleneck, (2, 1, 1), width=4), images(), sgd)


def mobilenet_v2() -> Example:
    model = nn.Sequential(
        convolution(3, 8, 3), nn.ReLU6(),
        InvertedResidual(8, 8, expansion=1, stride=1),
        InvertedResidual(8, 12, expansion=6, stride=2),
        InvertedResidual(12, 12, expansion=6, stride=1),
        InvertedResidual(12, 16, expansion=6, stride=2),
        convolution(16, 32, 1), nn.ReLU6(),
        *pooled(32, dropout=0.2),
    )  # fmt: skip
    return classification(model, images(), sgd)


def efficientnet() -> Example:
    model = nn.Sequential(
        convolution(3, 8, 3), nn.SiLU(),
        MBConv(8, 8, kernel=3, stride=1),
        MBConv(8, 12, kernel=5, stride=2),
        MBConv(12, 12, kernel=5, stride=1),
        convolution(12, 24, 1), nn.SiLU(),
        *pooled(24, dropout=0.2),
    )  # fmt: skip
    return classification(model, images(), adamw)


def convnext() -> Example:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 2, stride=2), ChannelNorm(8),
        ConvNeXtBlock(8), ConvNeXtBlock(8),
        ChannelNorm(8), nn.Conv2d(8, 16, 2, stride=2),
        ConvNeXtBlock(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, CLASSES),
    )  # fmt: skip
    return classification(model, images(), adamw)

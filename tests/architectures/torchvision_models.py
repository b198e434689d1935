"""Three classifiers of torchvision 0.28, layer by layer (torchvision/models), an eighth as wide.

`bench/architectures.py --published` checks the originals where torchvision is installed.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.architectures.classification import BATCH, CLASSES, Example, classification, sgd

NARROWER = 8


def images() -> torch.Tensor:
    """The smallest at which the last BatchNorm still sees a 2×2 picture."""
    return torch.randn(BATCH, 3, 40, 40)


def narrow(channels: int) -> int:
    return max(2, channels // NARROWER)


# ---------------------------------------------------------------- resnet.py: resnet18


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [narrow(c) for c in (64, 64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(*(
            nn.Sequential(BasicBlock(a, b, stride), BasicBlock(b, b, 1))
            for a, b, stride in zip(widths, widths[1:], (1, 2, 2, 2), strict=False)
        ))  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(widths[-1], CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))


# ---------------------------------------------------------------- mobilenetv3.py

# kernel, expanded, outputs, squeeze-and-excite, Hardswish, stride
SMALL = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:  # fmt: skip
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(2, channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.fc2(F.relu(self.fc1(self.avgpool(x)), inplace=True))
        return F.hardsigmoid(scale) * x


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, kernel: int, expanded: int, outputs: int,
                 squeezes: bool, swish: bool, stride: int) -> None:  # fmt: skip
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        self.block = nn.Sequential(
            *([conv_norm(inputs, expanded, 1, activation=activation)] * (expanded != inputs)),
            conv_norm(expanded, expanded, kernel, stride, expanded, activation),
            *([SqueezeExcitation(expanded)] if squeezes else []),
            conv_norm(expanded, outputs, 1),
        )
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.block(x)
        if self.use_res_connect:
            result += x
        return result


class MobileNetV3Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inputs = narrow(16)
        layers: list[nn.Module] = [conv_norm(3, inputs, 3, 2, activation=nn.Hardswish)]
        for kernel, expanded, outputs, squeezes, swish, stride in SMALL:
            layers.append(InvertedResidual(
                inputs, kernel, narrow(expanded), narrow(outputs), squeezes, swish, stride
            ))  # fmt: skip
            inputs = narrow(outputs)
        layers.append(conv_norm(inputs, 6 * inputs, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * inputs, narrow(1024)), nn.Hardswish(inplace=True),
            nn.Dropout(0.2, inplace=True), nn.Linear(narrow(1024), CLASSES),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


# ---------------------------------------------------------------- vgg.py: vgg11_bn


class VGG11(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):  # 0: pool
            if not channels:
                layers.append(nn.MaxPool2d(2, 2))
                continue
            outputs = narrow(channels) // 2
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        wide = 48
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 7 * 7, wide), nn.ReLU(inplace=True), nn.Dropout(0.5),
            nn.Linear(wide, wide), nn.ReLU(inplace=True), nn.Dropout(0.5),
            nn.Linear(wide, CLASSES),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def torchvision_resnet18() -> Example:
    return classification(ResNet18(), images(), sgd)


def torchvision_mobilenet_v3_small() -> Example:
    return classification(MobileNetV3Small(), images(), sgd)


def torchvision_vgg11_bn() -> Example:
    return classification(VGG11(), images(), sgd)

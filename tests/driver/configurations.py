"""Training steps that differ in model, loss, optimizer and options: what users combine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hearth import TrainStep

Example = tuple[TrainStep, Any, Any]


class Residual(nn.Module):
    """BatchNorm, groups, dilation, stride, a shortcut, average and adaptive pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3)
        self.mix = nn.Conv2d(6, 8, 1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8 * 3 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + F.silu(self.grouped(x))
        x = F.avg_pool2d(F.gelu(self.mix(x)), 2, stride=1, padding=1)
        x = F.adaptive_avg_pool2d(x, (3, 2))
        return self.head(self.drop(x.flatten(1)))


class Rows(nn.Module):
    """LayerNorm, tanh, sigmoid gates, two inputs and two outputs, a tied and a frozen weight."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(7)
        self.first = nn.Linear(7, 7)
        self.tied = nn.Linear(7, 7, bias=False)
        self.tied.weight = self.first.weight
        self.frozen = nn.Linear(3, 7).requires_grad_(False)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.tanh(self.first(self.norm(x))) * torch.sigmoid(self.frozen(z))
        return self.tied(h), h.mean(1)


def two_part_loss(outputs: Any, wanted: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    rows, means = outputs
    return F.mse_loss(rows, wanted) + 0.1 * (means - mean).abs().mean()


def image_step(optimizer: Callable[[nn.Module], torch.optim.Optimizer], loss: Any,
               labels: torch.Tensor, **options: Any) -> Example:  # fmt: skip
    torch.manual_seed(3)
    model = Residual()
    step = TrainStep(model, loss, optimizer(model), **options)
    return step, torch.randn(4, 2, 9, 7), labels


def classes(count: int = 4) -> torch.Tensor:
    return torch.arange(count) % 5


def sgd_nesterov() -> Example:
    loss = nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]))
    return image_step(
        lambda m: torch.optim.SGD(m.parameters(), 0.05, 0.9, nesterov=True, weight_decay=1e-3),
        loss, classes(), clip_grad_norm=0.7,
    )  # fmt: skip


def sgd_dampening() -> Example:
    return image_step(
        lambda m: torch.optim.SGD(m.parameters(), 0.05, 0.9, dampening=0.2),
        nn.CrossEntropyLoss(ignore_index=4), classes(), clip_grad_value=0.02,
    )  # fmt: skip


def adamw_groups() -> Example:
    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        decayed = [p for p in model.parameters() if p.dim() > 1]
        plain = [p for p in model.parameters() if p.dim() <= 1]
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0, "lr": 3e-3}]
        return torch.optim.AdamW(groups, 1e-2, weight_decay=0.1)

    return image_step(optimizer, nn.CrossEntropyLoss(), classes(), clip_grad_norm=1.0)


def adam_amsgrad() -> Example:
    return image_step(
        lambda m: torch.optim.Adam(m.parameters(), 1e-2, amsgrad=True),
        nn.BCEWithLogitsLoss(), torch.rand(4, 5),
    )  # fmt: skip


def rmsprop() -> Example:
    torch.manual_seed(5)
    model = Rows()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.RMSprop(parameters, 1e-2, momentum=0.5, centered=True)
    inputs = (torch.randn(4, 7), torch.randn(4, 3))
    targets = (torch.randn(4, 7), torch.randn(4))
    return TrainStep(model, two_part_loss, optimizer), inputs, targets


def plain_sgd() -> Example:
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(5, 1))
    return TrainStep(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), 0.1)), \
        torch.randn(4, 5), torch.randn(4, 1)  # fmt: skip


CONFIGURATIONS: dict[str, Callable[[], Example]] = {
    f.__name__: f
    for f in (sgd_nesterov, sgd_dampening, adamw_groups, adam_amsgrad, rmsprop, plain_sgd)
}

"""Captured training steps computed in float64 at many batch sizes equal eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

from examples.models import LeNet5, MnistCNN, MnistMLP
from hearth.capture.opset import CORE_OPS
from hearth.steps.programs import capture_evaluate, capture_gradients, predict_of
from hearth.steps.train_step import TrainStep
from tests.capture.eager import BATCHES, feeds, largest_error, run_eager

TOLERANCE = 1e-12


class Block(nn.Module):
    def __init__(self, i: int, o: int, stride: int, groups: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, dilation, dilation, groups, bias=False)
        self.norm1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, "same", 1, groups)
        self.norm2 = nn.BatchNorm2d(o, momentum=0.3)
        self.skip = nn.Conv2d(i, o, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu_(self.norm2(self.conv2(y)) + self.skip(x))


def residual() -> nn.Module:
    return nn.Sequential(
        Block(3, 8, 1, 1, 2),
        Block(8, 12, 2, 4, 1),
        nn.AvgPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(48, 5),
    )


class Tower(nn.Module):
    """LayerNorm, GroupNorm and the activations; a tied weight, a frozen and an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight
        self.group = nn.GroupNorm(3, 12)
        self.out = nn.Linear(12, 5)
        self.unused = nn.Linear(2, 2)
        self.first.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.first(self.norm(x)))
        x = F.silu(self.group(self.second(x))) + torch.tanh(x) * torch.sigmoid(x)
        x = F.elu(x) + F.leaky_relu(x) + F.hardswish(x) + F.softplus(x) + F.mish(x)
        x = F.gelu(x, approximate="tanh") * F.relu6(x) - F.hardsigmoid(x) + F.logsigmoid(x)
        return self.out(x)


class Views(nn.Module):
    """Slices, padding, cats, in-place writes, masked fills, reductions and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 12)
        self.register_buffer("mask", torch.arange(12) % 3 == 0)
        self.register_buffer("scale", torch.linspace(0.1, 1.3, 12), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x).masked_fill(self.mask, 0.7) * self.scale
        a, b, c = x.chunk(3, 1)
        y = torch.cat([a.flip(1), F.pad(b[:, 1:-1], (2, 1)), c[:, ::2]], 1)
        z = torch.stack([y, y.roll(1, 1)], 2)
        z[:, 2] = z[:, 3] * 2
        z[:, 4:6, 0] += 1.5
        top = z.amax((1, 2), keepdim=True) - z.mean() + z.std(1, keepdim=True).mean(2, keepdim=True)
        w = torch.where(z > 0, z, torch.tensor([0.25, 0.5])) / (top**2 + 1).sqrt()
        return torch.cat([w[:, -1], w[..., 1].softmax(1)[:, :3]], 1).clamp(-0.3, 0.4)


class Recomputed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 9), nn.Linear(9, 5)
        self.drop = nn.Dropout(0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = checkpoint(lambda t: torch.tanh(self.drop(self.first(t))), x, use_reentrant=False)
        return self.last(self.drop(y))


class Sequence1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=0)
        self.conv = nn.Conv1d(6, 8, 3, 2, 1, groups=2)
        self.up = nn.ConvTranspose2d(8, 4, 3, 2, 1, 1)
        self.out = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool1d(F.instance_norm(self.conv(self.embed(x).transpose(1, 2))), 2)
        y = F.interpolate(self.up(y.reshape(-1, 8, 1, 3)), scale_factor=2, mode="bilinear")
        return self.out(F.adaptive_avg_pool2d(F.interpolate(y, scale_factor=2), (2, 2)).flatten(1))


def image(channels: int, side: int) -> Callable[[int], torch.Tensor]:
    return lambda batch: torch.randn(batch, channels, side, side)


def vector(batch: int) -> torch.Tensor:
    return torch.randn(batch, 12)


def tokens(batch: int) -> torch.Tensor:
    return torch.randint(0, 11, (batch, 12))


def labels(classes: int) -> Callable[[int], torch.Tensor]:
    return lambda batch: torch.arange(batch) * 7 % classes


def some_ignored(batch: int) -> torch.Tensor:
    y = torch.arange(batch) * 7 % 5
    y[1::3] = 2
    return y


def real(batch: int) -> torch.Tensor:
    return torch.randn(batch, 5)


def chance(batch: int) -> torch.Tensor:
    return torch.rand(batch, 5)


def own_loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((outputs - y).abs().pow(1.5).sum(1) / len(y)).sum() + 0.1 * outputs.logsumexp(1).mean()


WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5, 1.7])
CE = nn.CrossEntropyLoss
CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "mlp": (MnistMLP, image(1, 28), CE(), labels(10)),
    "lenet5": (LeNet5, image(1, 28), CE(), labels(10)),
    "cnn": (MnistCNN, image(1, 28), CE(label_smoothing=0.1), labels(10)),
    "residual": (residual, image(3, 8), CE(weight=WEIGHTS), labels(5)),
    "tower": (Tower, vector, CE(ignore_index=2), some_ignored),
    "tower all": (Tower, vector, CE(WEIGHTS, ignore_index=2, label_smoothing=0.2), some_ignored),
    "tower sum": (Tower, vector, CE(reduction="sum"), labels(5)),
    "tower probabilities": (Tower, vector, CE(), lambda b: chance(b).softmax(1)),
    "tower mse": (Tower, vector, nn.MSELoss(), real),
    "tower huber": (Tower, vector, nn.HuberLoss(delta=0.3), real),
    "tower smooth l1": (Tower, vector, nn.SmoothL1Loss(beta=0.4), real),
    "tower l1": (Tower, vector, nn.L1Loss(), real),
    "tower bce": (Tower, vector, nn.BCEWithLogitsLoss(), chance),
    "tower bce weighted": (Tower, vector, nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), chance),
    "tower own": (Tower, vector, own_loss, real),
    "views": (Views, vector, lambda o, y: F.mse_loss(o[:, :5], y), real),
    "checkpoint": (Recomputed, vector, CE(), labels(5)),
    "sequence": (Sequence1d, tokens, CE(), labels(5)),
}


def make(name: str) -> tuple[TrainStep, Any, Any]:
    torch.manual_seed(0)
    model, sample, loss, target = CASES[name]
    network = model()
    held = list(network.parameters())
    step = TrainStep(network, loss=loss, optimizer=torch.optim.SGD(held, lr=0.1))
    return step, sample, target


@pytest.mark.parametrize("name", CASES)
def test_a_captured_gradient_program_equals_pytorch_at_every_batch_size(name: str) -> None:
    step, sample, target = make(name)
    graph = capture_gradients(step, sample(4), target(4))
    assert {n.target for n in graph.nodes} <= set(CORE_OPS)
    for batch in BATCHES:
        x, y = sample(batch), target(batch)
        expected = run_eager(step, (x,), (y,))
        missing = {k for k in expected if k[0] == "gradient"} - {
            (o.role, o.name) for o in graph.outputs
        }
        assert not missing
        assert largest_error(graph, batch, feeds(step, (x,), (y,)), expected) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_evaluate_and_predict_run_the_model_in_eval_mode(name: str) -> None:
    step, sample, target = make(name)
    evaluate = capture_evaluate(step, sample(4), target(4))
    predict = predict_of(evaluate)
    for batch in (1, 5):
        x, y = sample(batch), target(batch)
        expected = run_eager(step, (x,), (y,), training=False)
        hits = expected["output", "output/0"].argmax(1) == y if y.dim() == 1 else torch.zeros(1)
        expected["metric", "accuracy"] = hits.double().mean()
        given = feeds(step, (x,), (y,))
        assert largest_error(evaluate, batch, given, expected) <= TOLERANCE
        assert largest_error(predict, batch, given, expected) <= TOLERANCE
    metrics = [o.name for o in evaluate.outputs if o.role == "metric"]
    assert metrics == (["accuracy"] if target(4).dim() == 1 else [])

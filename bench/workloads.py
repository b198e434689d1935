"""The six workloads of the comparison, each written once, in PyTorch.

Every peer starts from the weights of `model()` after `torch.manual_seed(0)`, sees the batches of
`batch`, and takes steps of `optimizer`.  Dropout is off: its random masks would make the losses of
two frameworks incomparable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from examples.models import LeNet5, MnistCNN, MnistMLP
from tests.architectures.convolutional import BasicBlock, ResNet
from tests.architectures.sequence import GPT, LearnedPositions

Batch = tuple[torch.Tensor, torch.Tensor]

LEARNING_RATE: Final = 1e-3
BATCHES: Final = 4  # distinct ones, used in turn
LENGTH: Final = 64
WIDTH: Final = 128
HEADS: Final = 4


class TextClassifier(nn.Module):
    """`nn.TransformerEncoder`, two layers, over 64 tokens of 1,000; the mean is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, WIDTH)
        self.positions = LearnedPositions(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.positions(self.embed(tokens)))
        logits: torch.Tensor = self.head(x.mean(1))
        return logits


def resnet18() -> nn.Module:
    model = ResNet(BasicBlock, (2, 2, 2, 2), width=64)
    model.head = nn.Linear(512, 10)
    return model


def small_gpt() -> nn.Module:
    """Four layers, tokens are bytes; the head shares the weight of the embedding."""
    return GPT(layers=4, width=WIDTH, heads=HEADS, vocabulary=256, length=LENGTH)


def images(channels: int, size: int) -> Callable[[int], Batch]:
    def batch(rows: int) -> Batch:
        return torch.rand(rows, channels, size, size), torch.randint(0, 10, (rows,))

    return batch


def flat_images(rows: int) -> Batch:
    return torch.rand(rows, 784), torch.randint(0, 10, (rows,))


def texts(rows: int) -> Batch:
    return torch.randint(0, 1000, (rows, LENGTH)), torch.randint(0, 4, (rows,))


def next_tokens(vocabulary: int, length: int) -> Callable[[int], Batch]:
    def batch(rows: int) -> Batch:
        text = torch.randint(0, vocabulary, (rows, length + 1))
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    return batch


@dataclass(frozen=True)
class Workload:
    """A model, and how to make one batch of a size: inputs, and classes of what it predicts."""

    name: str
    title: str
    model: Callable[[], nn.Module]
    batch: Callable[[int], Batch]

    def seeded_model(self) -> nn.Module:
        torch.manual_seed(0)
        model = self.model()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model.train()

    def batches(self, rows: int) -> list[Batch]:
        torch.manual_seed(1)
        return [self.batch(rows) for _ in range(BATCHES)]


def loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, -2), classes.flatten())


def optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Without weight decay AdamW is Adam, the only one of the two that every peer has."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)


WORKLOADS: Final = {
    w.name: w
    for w in (
        Workload("mlp", "MLP 784-128-10", MnistMLP, flat_images),
        Workload("lenet5", "LeNet-5", LeNet5, images(1, 28)),
        Workload("cnn", "MNIST CNN", MnistCNN, images(1, 28)),
        Workload("resnet18", "ResNet-18, CIFAR form", resnet18, images(3, 32)),
        Workload("transformer", "Transformer classifier", TextClassifier, texts),
        Workload("gpt", "small GPT", small_gpt, next_tokens(256, LENGTH)),
    )
}

"""More workloads: as people train, with dropout, GELU, a large vocabulary, and long texts."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import nn

from bench.workloads import HEADS, LENGTH, WIDTH, Batch, Workload, next_tokens
from tests.architectures.sequence import GPT, LearnedPositions


class DeepClassifier(nn.Module):
    """`nn.TransformerEncoder`, four layers with GELU and dropout, over 64 tokens of 1,000."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, WIDTH)
        self.positions = LearnedPositions(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.encoder(self.positions(self.embed(tokens))).mean(1))
        return logits


def wide_gpt() -> nn.Module:
    return GPT(layers=6, width=192, heads=6, vocabulary=4096, length=LENGTH)


def texts(rows: int) -> Batch:
    return torch.randint(0, 1000, (rows, LENGTH)), torch.randint(0, 10, (rows,))


def long_gpt(length: int) -> nn.Module:
    return GPT(layers=2, width=WIDTH, heads=HEADS, vocabulary=256, length=length)


LONG_GPTS: Final = tuple(
    Workload(
        f"gpt{n}", f"GPT, 2 layers, {n} tokens, dropout", partial(long_gpt, n), next_tokens(256, n)
    )
    for n in (256, 512)
)
LARGER: Final = {
    w.name: w
    for w in (
        Workload("deep", "Transformer classifier, 4 layers, dropout", DeepClassifier, texts),
        Workload(
            "wide", "GPT, 6 layers, 192 wide, vocabulary 4096", wide_gpt, next_tokens(4096, LENGTH)
        ),
        *LONG_GPTS,
    )
}

"""Models of sequences: transformers for images, text and language modelling, LSTM, GRU, 1-D."""

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

VOCABULARY = 23
LENGTH = 11
WIDTH = 12
PADDING = 0


def tokens(length: int = LENGTH) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (BATCH, length))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2020: patches, a class token, learned positions, pre-norm blocks."""

    def __init__(self, patches: int = 9, width: int = WIDTH) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + patches, width))
        layer = nn.TransformerEncoderLayer(
            width, 3, 2 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class SinusoidalPositions(nn.Module):
    """Vaswani et al. 2017, section 3.5; a buffer outside the state_dict."""

    table: torch.Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        position = torch.arange(length)[:, None]
        frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
        waves = torch.stack([torch.sin(position * frequency), torch.cos(position * frequency)], -1)
        self.register_buffer("table", waves.flatten(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table[: x.shape[1]]


class LearnedPositions(nn.Module):
    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(length, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table(torch.arange(x.shape[1], device=x.device))


class TextClassifier(nn.Module):
    """`nn.TransformerEncoder` over padded tokens, pooled over those that are not padding."""

    def __init__(self, positions: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PADDING)
        self.positions = positions
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 20, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        padding = text == PADDING
        x = self.positions(self.embed(text) * math.sqrt(WIDTH))
        x = self.encoder(x, src_key_padding_mask=padding).masked_fill(padding[..., None], 0.0)
        count = (~padding).sum(1, keepdim=True).clamp(min=1)
        return self.head(x.sum(1) / count)


class AttentionPooling(nn.Module):
    """`nn.MultiheadAttention` with one learned query over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.query = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.embed(text)
        query = self.query.expand(len(text), -1, -1)
        pooled, weights = self.attention(query, x, x)
        return self.head(pooled[:, 0]), weights


class CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mix = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        split = self.mix(x).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.project(mixed.transpose(1, 2).reshape(rows, length, width))


class GPT(nn.Module):
    """Radford et al. 2019: pre-norm causal blocks; the head shares the embedding's weight."""

    def __init__(
        self, layers: int = 2, width: int = WIDTH, heads: int = 2,
        vocabulary: int = VOCABULARY, length: int = LENGTH,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.drop = nn.Dropout(0.1)
        self.layers = nn.ModuleList(self._layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    @staticmethod
    def _layer(width: int, heads: int) -> nn.ModuleDict:
        mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        return nn.ModuleDict({
            "norm1": nn.LayerNorm(width), "attention": CausalAttention(width, heads),
            "norm2": nn.LayerNorm(width), "mlp": mlp,
        })  # fmt: skip

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.embed(text) + self.positions(torch.arange(text.shape[1])))
        for layer in self.layers:
            x = x + layer["attention"](layer["norm1"](x))
            x = x + layer["mlp"](layer["norm2"](x))
        return self.head(self.norm(x))


def next_token_loss(logits: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), text[:, 1:].flatten())


class Recurrent(nn.Module):
    """Two bidirectional layers; the last state of either direction is classified."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 7)
        self.recurrent = kind(7, 6, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.head = nn.Linear(2 * 6, CLASSES)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        _, state = self.recurrent(self.embed(text))
        hidden = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([hidden[-2], hidden[-1]], dim=1))


def vit_tiny() -> Example:
    return classification(VisionTransformer(), torch.randn(BATCH, 3, 12, 12), adamw)


def text_sinusoidal() -> Example:
    return classification(TextClassifier(SinusoidalPositions(LENGTH, WIDTH)), tokens(), adamw)


def text_learned() -> Example:
    model = TextClassifier(LearnedPositions(LENGTH, WIDTH))
    return classification(model, tokens(), adamw, clip_grad_norm=1.0)


def attention_pooling() -> Example:
    model = AttentionPooling()

    def loss(outputs: tuple[torch.Tensor, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs[0], labels)

    step = TrainStep(model, loss, adamw(list(model.parameters())))
    return step, tokens(), torch.arange(BATCH) % CLASSES


def gpt() -> Example:
    model = GPT()
    step = TrainStep(model, next_token_loss, adamw(list(model.parameters())), clip_grad_norm=1.0)
    return step, tokens(), tokens()


def lstm() -> Example:
    return classification(Recurrent(nn.LSTM), tokens(length=4), adamw, clip_grad_norm=1.0)


def gru() -> Example:
    return classification(Recurrent(nn.GRU), tokens(length=4), adamw, clip_grad_norm=1.0)


def sensor() -> Example:
    """Six channels of a sensor over time: strided and dilated 1-D convolutions."""
    model = nn.Sequential(
        nn.Conv1d(6, 8, 5, padding=2, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 3, dilation=2, padding="same", bias=False), nn.BatchNorm1d(12), nn.ReLU(),
        nn.Conv1d(12, 12, 4, stride=2, groups=3), nn.Hardswish(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(12, CLASSES),
    )  # fmt: skip
    return classification(model, torch.randn(BATCH, 6, 41))

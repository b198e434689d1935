"""What a sample is: a function of PyTorch, and how to draw its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

Extent = int | Literal["B"]


@dataclass(frozen=True)
class Tensor:
    """Random values of a kind in [low, high); "B" as the first extent is the batch."""

    kind: str
    shape: tuple[Extent, ...]
    low: float = -3
    high: float = 3

    @property
    def batched(self) -> bool:
        return self.shape[:1] == ("B",)

    def draw(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        shape = tuple(batch if e == "B" else e for e in self.shape)
        uniform = torch.rand(shape, dtype=torch.float64, generator=generator)
        values = uniform * (self.high - self.low) + self.low
        if self.kind == "float":
            return values
        if self.kind == "bool":
            return uniform < 0.5
        if self.kind == "ties":  # few different values, so that maxima repeat
            return values.round()
        return values.floor().long()


def floats(*shape: Extent, low: float = -3, high: float = 3) -> Tensor:
    return Tensor("float", shape, low, high)


def ties(*shape: Extent) -> Tensor:
    return Tensor("ties", shape, -2, 2)


def ints(*shape: Extent, low: int = -9, high: int = 9) -> Tensor:
    return Tensor("int", shape, low, high)


def bools(*shape: Extent) -> Tensor:
    return Tensor("bool", shape)


@dataclass(frozen=True)
class Sample:
    op: str
    function: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    label: str = ""

    def draw(self, batch: int, seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [i.draw(batch, generator) for i in self.inputs]

    def __str__(self) -> str:
        return f"{self.op} {self.label}".strip()


class Samples(list[Sample]):
    """Those of one family, in the order in which they were added."""

    def add(self, op: str, label: str, function: Callable[..., Any], *inputs: Tensor) -> None:
        self.append(Sample(op, function, inputs, label))


def gradient(function: Callable[..., torch.Tensor], weight: float = 0.7) -> Callable[..., Any]:
    """All gradients of a smooth scalar of the function's result."""

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in tensors]
        wanted = [t for t in leaves if t.requires_grad]
        y = function(*leaves)
        return torch.autograd.grad((y * (y * weight + 1)).sum(), wanted)

    return run

"""What a traced function is given and what it returns: tensors by name and role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch.autograd.graph import GradientEdge

from hearth.capture.origins import Origins
from hearth.capture.random import Streams


@dataclass(frozen=True)
class TracedInput:
    """An input of a captured function.

    `batched` says whether dimension 0 is the batch, or names all dimensions that are.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    batched: bool | tuple[int, ...] = False

    @property
    def batch_axes(self) -> tuple[int, ...]:
        if isinstance(self.batched, tuple):
            return self.batched
        return (0,) if self.batched else ()

    def at(self, batch: int) -> tuple[int, ...]:
        return tuple(batch if k in self.batch_axes else e for k, e in enumerate(self.shape))


@dataclass(frozen=True)
class TracedOutput:
    """A tensor that the captured function returns."""

    name: str
    role: str
    tensor: torch.Tensor


@dataclass
class Tracing:
    """What a captured function may use while it is traced: where we are, and random streams."""

    origins: Origins
    streams: Streams
    outputs: list[TracedOutput] = field(default_factory=list)

    def gradient(
        self, scalar: torch.Tensor, tensors: Sequence[torch.Tensor | GradientEdge]
    ) -> list[torch.Tensor | None]:
        """`torch.autograd.grad`, with every operation placed at the line it differentiates."""
        self.origins.follow_gradient(scalar.grad_fn)
        # PyTorch takes both kinds at once, its annotation one of them.
        sources = cast("list[torch.Tensor]", list(tensors))
        return list(torch.autograd.grad(scalar, sources, allow_unused=True))

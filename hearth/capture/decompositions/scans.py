"""Cumulative functions: every element with all before it, as one operator along the last axis."""

from __future__ import annotations

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor

operator("scan(Tensor x, str kind) -> Tensor", lambda x, kind: torch.empty_like(x))  # noqa: ARG005


def scan(x: Tensor, axis: int, kind: str) -> Tensor:
    """The running "sum", "prod", "max", "min" or "logsumexp" along an axis."""
    if not x.dim() or not x.numel():
        return x.clone()
    running: Tensor = torch.ops.hearth.scan(x.movedim(axis, -1).contiguous(), kind)
    return running.movedim(-1, axis)


def _summable(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    return x.to(dtype or (x.dtype if x.dtype.is_floating_point else torch.int64))


@rule(aten.cumsum.default)
def cumsum(x: Tensor, axis: int, *, dtype: torch.dtype | None = None) -> Tensor:
    return scan(_summable(x, dtype), axis, "sum")


@rule(aten.cumprod.default)
def cumprod(x: Tensor, axis: int, *, dtype: torch.dtype | None = None) -> Tensor:
    return scan(_summable(x, dtype), axis, "prod")


@rule(aten.logcumsumexp.default, aten._logcumsumexp.default)
def logcumsumexp(x: Tensor, axis: int) -> Tensor:
    return scan(x, axis, "logsumexp")


def _records(x: Tensor, axis: int, kind: str) -> tuple[Tensor, Tensor]:
    """The extreme so far, and the position of the last element that equals it."""
    if not x.dim() or not x.numel():
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    numbers = x.long() if x.dtype == torch.bool else x
    values = scan(numbers, axis, kind)
    held = (numbers == values) | ((numbers != numbers) & (values != values))
    shape = [-1 if a == axis % x.dim() else 1 for a in range(x.dim())]
    number = torch.arange(x.shape[axis]).reshape(shape)
    return values.to(x.dtype), scan(torch.where(held, number, -1), axis, "max")


@rule(aten.cummax.default)
def cummax(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    return _records(x, axis, "max")


@rule(aten.cummin.default)
def cummin(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    return _records(x, axis, "min")

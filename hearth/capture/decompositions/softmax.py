"""Softmax, its logarithm, and their gradients."""

from __future__ import annotations

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor


@rule(aten._softmax.default)
def softmax(x: Tensor, axis: int, half_to_float: bool) -> Tensor:
    x = x.float() if half_to_float else x
    if not x.numel():
        return x.clone()
    e = torch.exp(x - torch.amax(x, [axis], True))
    return e / e.sum([axis], True)


@rule(aten._safe_softmax.default)
def safe_softmax(x: Tensor, axis: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax whose fully masked rows (all -inf) are zeros instead of NaN."""
    x = x if dtype is None else x.to(dtype)
    top = torch.amax(x, [axis], True)
    e = torch.exp(x - torch.where(top == -torch.inf, 0.0, top))
    total = e.sum([axis], True)
    return e / torch.where(total == 0, 1.0, total)


@rule(aten._softmax_backward_data.default)
def softmax_backward(g: Tensor, y: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    weighted = g * y
    return weighted - y * weighted.sum([axis], True)


@rule(aten._log_softmax.default)
def log_softmax(x: Tensor, axis: int, half_to_float: bool) -> Tensor:
    x = x.float() if half_to_float else x
    if not x.numel():
        return x.clone()
    shifted = x - torch.amax(x, [axis], True)
    return shifted - torch.log(torch.exp(shifted).sum([axis], True))


@rule(aten._log_softmax_backward_data.default)
def log_softmax_backward(g: Tensor, y: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    return g - torch.exp(y) * g.sum([axis], True)

"""Means, variances and norms as sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hearth.capture.decompositions.registry import aten, count, rule

Tensor = torch.Tensor
Ints = Sequence[int]
Scalar = float | int


@rule(aten.mean.default)
def mean(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return x.sum(dtype=dtype) / x.numel()


def _axes(x: Tensor, axes: Ints | int | None) -> list[int]:
    if isinstance(axes, int):
        axes = [axes]
    return [a % max(x.dim(), 1) for a in axes] if axes and x.dim() else list(range(x.dim()))


@rule(aten.mean.dim)
def mean_over(
    x: Tensor, axes: Ints | None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    axes = _axes(x, axes)
    return x.sum(axes, keepdim, dtype=dtype) / count(x, axes)


@rule(aten.var_mean.correction)
def var_mean(
    x: Tensor, axes: Ints | None = None, correction: Scalar | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    axes = _axes(x, axes)
    n = count(x, axes)
    middle = x.sum(axes, True) / n
    centred = x - middle
    var = (centred * centred).sum(axes, keepdim) / max(
        n - (1 if correction is None else correction), 0
    )
    return var, middle if keepdim else middle.squeeze(axes)


@rule(aten.var.correction)
def var(
    x: Tensor, axes: Ints | None = None, correction: Scalar | None = None, keepdim: bool = False
) -> Tensor:
    result: Tensor = var_mean(x, axes, correction, keepdim)[0]
    return result


@rule(aten.std.correction)
def std(
    x: Tensor, axes: Ints | None = None, correction: Scalar | None = None, keepdim: bool = False
) -> Tensor:
    return torch.sqrt(var_mean(x, axes, correction, keepdim)[0])


def _ratio_norm(x: Tensor, order: Scalar, axes: list[int], keepdim: bool) -> Tensor:
    return torch.pow(torch.pow(x.abs(), order).sum(axes, keepdim), 1 / order)


@rule(aten.linalg_vector_norm.default)
def vector_norm(
    x: Tensor,
    order: Scalar = 2,
    axes: Ints | int | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    axes, x = _axes(x, axes), x if dtype is None else x.to(dtype)
    if not axes:
        return (x != 0).to(x.dtype) if order == 0 else x.abs()
    if order == 0:
        return (x != 0).to(x.dtype).sum(axes, keepdim)
    if order == 1:
        return x.abs().sum(axes, keepdim)
    if order == 2:
        return torch.sqrt((x * x).sum(axes, keepdim))
    if abs(order) == math.inf:
        return (torch.amax if order > 0 else torch.amin)(x.abs(), axes, keepdim)
    return _ratio_norm(x, order, axes, keepdim)


@rule(aten.dist.default)
def dist(a: Tensor, b: Tensor, order: Scalar = 2) -> Tensor:
    return vector_norm(a - b, order)

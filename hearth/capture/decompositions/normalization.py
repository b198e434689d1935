"""BatchNorm, LayerNorm, GroupNorm and RMSNorm as reductions and pointwise operations.

The variance is computed in two passes, as the mean of squared deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, channel_shape, count, rule

Tensor = torch.Tensor
Optional = Tensor | None


def _affine(x: Tensor, weight: Optional, bias: Optional, shape: Sequence[int]) -> Tensor:
    if weight is not None:
        x = x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


def _moving(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    return old * (1 - momentum) + new * momentum


@rule(aten._native_batch_norm_legit_functional.default)
def batch_norm(
    x: Tensor,
    weight: Optional,
    bias: Optional,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Output, batch mean, batch 1/std, new running mean, new running (unbiased) variance."""
    if not training:
        y, mean, rstd = batch_norm_eval(x, weight, bias, running_mean, running_var, momentum, eps)
        return y, mean, rstd, running_mean, running_var
    y, mean, rstd, var = _batch_statistics(x, weight, bias, eps)
    n = x.numel() // x.shape[1]
    # n and n - 1 stay two literals: each is affine in the batch size, their quotient is not.
    # A single value has the variance 0 (PyTorch refuses the batch; a last batch of one must not
    # leave NaN in the running variance for ever).
    unbiased = var * n / torch.full_like(mean, n - 1).clamp(min=1)
    new_mean = _moving(running_mean, mean, momentum)
    return y, mean, rstd, new_mean, _moving(running_var, unbiased, momentum)


def _batch_statistics(
    x: Tensor, weight: Optional, bias: Optional, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    axes = [0, *range(2, x.dim())]
    shape, n = channel_shape(x), count(x, axes)
    mean = x.sum(axes) / n
    centred = x - mean.reshape(shape)
    var = (centred * centred).sum(axes) / n
    rstd = torch.rsqrt(var + eps)
    return _affine(centred * rstd.reshape(shape), weight, bias, shape), mean, rstd, var


@rule(aten._batch_norm_with_update_functional.default)
def batch_norm_with_update(
    x: Tensor,
    weight: Optional,
    bias: Optional,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    y, mean, rstd, new_mean, new_var = batch_norm(
        x, weight, bias, running_mean, running_var, True, momentum, eps
    )
    return y, mean, rstd, torch.zeros((0,), dtype=torch.uint8), new_mean, new_var


@rule(aten._native_batch_norm_legit.no_stats)
def batch_norm_without_statistics(
    x: Tensor,
    weight: Optional,
    bias: Optional,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _batch_statistics(x, weight, bias, eps)[:3]


@rule(aten._native_batch_norm_legit_no_training.default)
def batch_norm_eval(
    x: Tensor,
    weight: Optional,
    bias: Optional,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    shape, rstd = channel_shape(x), torch.rsqrt(running_var + eps)
    y = (x - running_mean.reshape(shape)) * rstd.reshape(shape)
    nothing = x.new_zeros((0,))  # as on the CPU: the gradient reads the running statistics
    return _affine(y, weight, bias, shape), nothing, nothing


@rule(aten.native_batch_norm.default)
def native_batch_norm(
    x: Tensor,
    weight: Optional,
    bias: Optional,
    running_mean: Optional,
    running_var: Optional,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    if training and running_mean is None:
        return _batch_statistics(x, weight, bias, eps)[:3]
    if training or running_mean is None or running_var is None:
        return NotImplemented
    return batch_norm_eval(x, weight, bias, running_mean, running_var, momentum, eps)


@rule(aten.native_batch_norm_backward.default)
def batch_norm_backward(
    g: Tensor,
    x: Tensor,
    weight: Optional,
    running_mean: Optional,
    running_var: Optional,
    mean: Optional,
    rstd: Optional,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> tuple[Optional, Optional, Optional]:
    axes = [0, *range(2, x.dim())]
    shape, n = channel_shape(x), count(x, axes)
    if not training:
        assert running_mean is not None
        assert running_var is not None
        mean, rstd = running_mean, torch.rsqrt(running_var + eps)
    assert mean is not None
    assert rstd is not None
    normal = (x - mean.reshape(shape)) * rstd.reshape(shape)
    g_bias, g_weight = g.sum(axes), (g * normal).sum(axes)
    scale = (rstd if weight is None else rstd * weight).reshape(shape)
    if training:
        g = g - (g_bias / n).reshape(shape) - normal * (g_weight / n).reshape(shape)
    g_x = g * scale if mask[0] else None
    return g_x, g_weight if mask[1] else None, g_bias if mask[2] else None


@rule(aten.batch_norm_backward.default)
def batch_norm_with_update_backward(*args: Any) -> tuple[Optional, Optional, Optional]:
    """As above, with a workspace at the end that nothing was written to."""
    result: tuple[Optional, Optional, Optional] = batch_norm_backward(*args[:-1])
    return result


def _standardize(x: Tensor, axes: list[int], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    n = count(x, axes)
    mean = x.sum(axes, True) / n
    centred = x - mean
    rstd = torch.rsqrt((centred * centred).sum(axes, True) / n + eps)
    return centred * rstd, mean, rstd


def _standardize_backward(g: Tensor, normal: Tensor, rstd: Tensor, axes: list[int]) -> Tensor:
    n = count(g, axes)
    shift = g.sum(axes, True) / n
    slope = (g * normal).sum(axes, True) / n
    return (g - shift - normal * slope) * rstd


def _trailing(x: Tensor, normalized_shape: Sequence[int]) -> list[int]:
    return list(range(x.dim() - len(normalized_shape), x.dim()))


@rule(aten.native_layer_norm.default)
def layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Optional, bias: Optional, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, rstd = _standardize(x, _trailing(x, normalized_shape), eps)
    return _affine(y, weight, bias, normalized_shape), mean, rstd


@rule(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    g: Tensor,
    x: Tensor,
    normalized_shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Optional,
    bias: Optional,
    mask: Sequence[bool],
) -> tuple[Optional, Optional, Optional]:
    inner = _trailing(x, normalized_shape)
    outer = [axis for axis in range(x.dim()) if axis not in inner]
    normal = (x - mean) * rstd
    weighted = g if weight is None else g * weight

    def reduced(t: Tensor) -> Tensor:
        return t.sum(outer) if outer else t

    return (
        _standardize_backward(weighted, normal, rstd, inner) if mask[0] else None,
        reduced(g * normal) if mask[1] and weight is not None else None,
        reduced(g) if mask[2] and bias is not None else None,
    )


@rule(aten.native_group_norm.default)
def group_norm(
    x: Tensor,
    weight: Optional,
    bias: Optional,
    batch: int,
    channels: int,
    positions: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    grouped = x.reshape(batch, groups, channels // groups * positions)
    y, mean, rstd = _standardize(grouped, [2], eps)
    y = _affine(y.reshape(batch, channels, positions), weight, bias, [1, channels, 1])
    return y.reshape(x.shape), mean.reshape(batch, groups), rstd.reshape(batch, groups)


@rule(aten.native_group_norm_backward.default)
def group_norm_backward(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Optional,
    batch: int,
    channels: int,
    positions: int,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Optional, Optional, Optional]:
    flat, grouped = (batch, channels, positions), (batch, groups, channels // groups * positions)
    g, rstd = g.reshape(flat), rstd.reshape(batch, groups, 1)
    normal = (x.reshape(grouped) - mean.reshape(batch, groups, 1)) * rstd
    weighted = g if weight is None else g * weight.reshape(1, channels, 1)
    g_x = _standardize_backward(weighted.reshape(grouped), normal, rstd, [2]).reshape(x.shape)
    return (
        g_x if mask[0] else None,
        (g * normal.reshape(flat)).sum((0, 2)) if mask[1] else None,
        g.sum((0, 2)) if mask[2] else None,
    )


@rule(aten._fused_rms_norm.default)
def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Optional, eps: float | None
) -> tuple[Tensor, Tensor]:
    axes = _trailing(x, normalized_shape)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    rstd = torch.rsqrt((x * x).sum(axes, True) / count(x, axes) + eps)
    return _affine(x * rstd, weight, None, normalized_shape), rstd


@rule(aten._fused_rms_norm_backward.default)
def rms_norm_backward(
    g: Tensor,
    x: Tensor,
    normalized_shape: Sequence[int],
    rstd: Tensor,
    weight: Optional,
    mask: Sequence[bool],
) -> tuple[Optional, Optional]:
    inner = _trailing(x, normalized_shape)
    normal = x * rstd
    weighted = g if weight is None else g * weight
    slope = (weighted * normal).sum(inner, True) / count(x, inner)
    g_weight = (g * normal).sum([a for a in range(x.dim()) if a not in inner])
    return (weighted - normal * slope) * rstd if mask[0] else None, g_weight if mask[1] else None

"""Rewrites above autograd: functions replaced by simpler ones before PyTorch differentiates them.

The gradient then comes for free, made of operations that we already have.  A rule takes the
function's own arguments and returns a tensor, or `NotImplemented` to leave the call alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils._python_dispatch import _disable_current_modes

Pair = tuple[int, int]
REWRITES: dict[Any, Callable[..., Any]] = {}


def _rewrite(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        REWRITES.update(dict.fromkeys(functions, rule))
        return rule

    return register


def _pair(value: Any) -> Any:
    if not isinstance(value, (tuple, list)):
        return (value, value)
    return (value[0], value[0]) if len(value) == 1 else tuple(value)


def _constant(make: Callable[[], torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """A table computed now, in float64, that becomes a constant of the graph."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        table = make()
    return table.to(like.dtype)


def _resample(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """`rows @ x @ columns.T` for each channel of [B, C, H, W]: any separable linear resampling."""
    batch, channels, height, width = x.shape
    out_height, out_width = rows.shape[0], columns.shape[0]
    y = x.reshape(batch * channels * height, width) @ columns.t()
    y = y.reshape(batch * channels, height, out_width).transpose(1, 2)
    y = y.reshape(batch * channels * out_width, height) @ rows.t()
    y = y.reshape(batch * channels, out_width, out_height).transpose(1, 2)
    return y.reshape(batch, channels, out_height, out_width)


def _block_mean(x: torch.Tensor, kernel: Pair) -> torch.Tensor:
    height, width = x.shape[-2] // kernel[0], x.shape[-1] // kernel[1]
    blocks = x.reshape(*x.shape[:-2], height, kernel[0], width, kernel[1])
    return blocks.mean((-3, -1))


def _averaging_matrix(size: int, out: int) -> torch.Tensor:
    """Rows of AdaptiveAvgPool: row i averages floor(i*size/out) up to ceil((i+1)*size/out)."""
    matrix = torch.zeros(out, size, dtype=torch.float64)
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1.0 / (stop - start)
    return matrix


@_rewrite(F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d)
def _adaptive_avg_pool2d(input: torch.Tensor, output_size: Any) -> Any:  # noqa: A002
    x, height, width = input, *input.shape[-2:]
    wanted = _pair(output_size)
    out = (wanted[0] or height, wanted[1] or width)
    if out == (height, width):
        return x.clone()
    if height % out[0] == 0 and width % out[1] == 0:
        return _block_mean(x, (height // out[0], width // out[1]))
    if x.dim() != 4:
        return _adaptive_avg_pool2d(x.unsqueeze(0), out).squeeze(0)
    rows = _constant(lambda: _averaging_matrix(height, out[0]), x)
    columns = _constant(lambda: _averaging_matrix(width, out[1]), x)
    return _resample(x, rows, columns)


@_rewrite(F.adaptive_avg_pool1d, torch.adaptive_avg_pool1d)
def _adaptive_avg_pool1d(input: torch.Tensor, output_size: Any) -> Any:  # noqa: A002
    size = output_size[0] if isinstance(output_size, (tuple, list)) else output_size
    return _adaptive_avg_pool2d(input.unsqueeze(-2), (1, size)).squeeze(-2)


@_rewrite(F.adaptive_max_pool2d, torch._C._nn.adaptive_max_pool2d)
def _adaptive_max_pool2d(
    input: torch.Tensor,  # noqa: A002
    output_size: Any,
    return_indices: bool = False,
) -> Any:
    height, width = input.shape[-2:]
    wanted = _pair(output_size)
    out = (wanted[0] or height, wanted[1] or width)
    if return_indices or height % out[0] or width % out[1]:
        return NotImplemented
    return F.max_pool2d(input, (height // out[0], width // out[1]))


@_rewrite(F.adaptive_max_pool1d, torch.adaptive_max_pool1d)
def _adaptive_max_pool1d(
    input: torch.Tensor,  # noqa: A002
    output_size: Any,
    return_indices: bool = False,
) -> Any:
    size = output_size[0] if isinstance(output_size, (tuple, list)) else output_size
    pooled = _adaptive_max_pool2d(input.unsqueeze(-2), (1, size), return_indices)
    return pooled if pooled is NotImplemented else pooled.squeeze(-2)


@_rewrite(F.avg_pool2d)
def _avg_pool2d(
    input: torch.Tensor,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    kernel = _pair(kernel_size)
    steps = _pair(stride) if stride else kernel
    height, width = input.shape[-2:]
    divisible = height % kernel[0] == 0 and width % kernel[1] == 0
    if kernel != steps or _pair(padding) != (0, 0) or divisor_override or not divisible:
        return NotImplemented
    return _block_mean(input, kernel)


def _source_positions(size: int, out: int, scale: float | None, corners: bool) -> torch.Tensor:
    """Where the centres of the output pixels lie in the input (PyTorch's area_pixel formula)."""
    index = torch.arange(out, dtype=torch.float64)
    if corners:
        return index * ((size - 1) / (out - 1) if out > 1 else 0.0)
    return ((index + 0.5) * (1.0 / scale if scale else size / out) - 0.5).clamp(min=0)


def _bilinear_matrix(size: int, out: int, scale: float | None, corners: bool) -> torch.Tensor:
    position = _source_positions(size, out, scale, corners)
    low = position.floor().long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    matrix, row = torch.zeros(out, size, dtype=torch.float64), torch.arange(out)
    matrix[row, low] += 1 - (position - low)
    matrix[row, high] += position - low
    return matrix


def _nearest_matrix(size: int, out: int, scale: float | None) -> torch.Tensor:
    index = torch.arange(out, dtype=torch.float64) * (1.0 / scale if scale else size / out)
    matrix = torch.zeros(out, size, dtype=torch.float64)
    matrix[torch.arange(out), index.floor().long().clamp(max=size - 1)] = 1
    return matrix


@_rewrite(F.interpolate)
def _interpolate(
    input: torch.Tensor,  # noqa: A002
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    if input.dim() != 4 or mode not in ("nearest", "bilinear") or antialias:
        return NotImplemented
    batch, channels, *extents = input.shape
    scales = _pair(scale_factor)
    out = _pair(size) if size is not None else None
    out = out or [math.floor(e * s) for e, s in zip(extents, scales, strict=True)]
    if size is not None or recompute_scale_factor:
        scales = (None, None)
    repeats = [o // e for o, e in zip(out, extents, strict=True)]
    if mode == "nearest" and [e * r for e, r in zip(extents, repeats, strict=True)] == list(out):
        y = input.reshape(batch, channels, extents[0], 1, extents[1], 1)
        y = y.expand(batch, channels, extents[0], repeats[0], extents[1], repeats[1])
        return y.reshape(batch, channels, *out)

    def matrix(axis: int) -> torch.Tensor:
        if mode == "nearest":
            return _nearest_matrix(extents[axis], out[axis], scales[axis])
        return _bilinear_matrix(extents[axis], out[axis], scales[axis], bool(align_corners))

    rows = _constant(lambda: matrix(0), input)
    return _resample(input, rows, _constant(lambda: matrix(1), input))

"""Sliding windows as tensors: `unfold`, `fold` and their gradients.

`hearth.window` is a view of windows; its transpose adds every tap up where it was read, one axis
and one tap after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor
Ints = Sequence[int]


def _window_shape(x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Tensor:
    lead, positions = x.dim() - len(kernel), []
    for axis, (k, s, p, d) in enumerate(zip(kernel, stride, padding, dilation, strict=True), lead):
        positions.append((x.shape[axis] + 2 * p - d * (k - 1) - 1) // s + 1)
    return x.new_empty((*x.shape[:lead], *positions, *kernel))


operator(
    "window(Tensor x, int[] kernel, int[] stride, int[] padding, int[] dilation) -> Tensor",
    _window_shape,
)


@rule(aten.unfold.default, aten.unfold_copy.default)
def unfold(x: Tensor, axis: int, size: int, step: int) -> Tensor:
    """[..., n, ...] -> [..., windows, ..., size]."""
    if x.dim() == 0:
        return x.expand(1)[:size].clone()
    moved = x.movedim(axis, -1)
    windows: Tensor = torch.ops.hearth.window(moved, [size], [step], [0], [1])
    return windows.movedim(-2, axis if axis >= 0 else axis - 1)


@rule(aten.unfold_backward.default)
def unfold_backward(g: Tensor, shape: Ints, axis: int, size: int, step: int) -> Tensor:
    if len(shape) == 0:
        return g.sum()
    axis = axis % len(shape)
    taps = g.movedim(axis, -2)  # [..., windows, size]
    return _overlapped(taps, step, 0, 1, shape[axis]).movedim(-1, axis)


def _overlapped(taps: Tensor, stride: int, padding: int, dilation: int, size: int) -> Tensor:
    """[..., windows, kernel] -> [..., size]: tap k of window o is added at o*s + k*d - p."""
    count, kernel = taps.shape[-2:]
    length = (count - 1) * stride + 1
    spread = torch.constant_pad_nd(taps.unsqueeze(-2), [0, 0, 0, stride - 1])
    spread = spread.flatten(-3, -2)[..., :length, :]
    total = None
    for k in range(kernel):
        start = k * dilation - padding
        placed = torch.constant_pad_nd(spread[..., k], [start, size - start - length])
        total = placed if total is None else total + placed
    assert total is not None
    return total


@rule(aten.im2col.default)
def im2col(x: Tensor, kernel: Ints, dilation: Ints, padding: Ints, stride: Ints) -> Tensor:
    """[(N,) C, H, W] -> [(N,) C * taps, positions]."""
    windows: Tensor = torch.ops.hearth.window(x, kernel, stride, padding, dilation)
    taps_first = windows.movedim((-2, -1), (-4, -3))
    return taps_first.flatten(-5, -3).flatten(-2)


@rule(aten.col2im.default)
def col2im(
    columns: Tensor, size: Ints, kernel: Ints, dilation: Ints, padding: Ints, stride: Ints
) -> Tensor:
    """The transpose of `im2col`: [(N,) C * taps, positions] -> [(N,) C, *size]."""
    geometry = list(zip(size, kernel, dilation, padding, stride, strict=True))
    counts = [(e + 2 * p - d * (k - 1) - 1) // s + 1 for e, k, d, p, s in geometry]
    channels = columns.shape[-2] // math.prod(kernel)
    x = columns.reshape(*columns.shape[:-2], channels, *kernel, *counts)
    x = x.movedim(-3, -1)  # [..., C, kh, oh, ow, kw]
    for axis in (1, 0):
        e, _, d, p, s = geometry[axis]
        x = _overlapped(x, s, p, d, e)  # [..., C, kh, oh, W], then [..., C, W, H]
        x = x.movedim(-3, -1).transpose(-3, -2) if axis else x.transpose(-2, -1)
    return x

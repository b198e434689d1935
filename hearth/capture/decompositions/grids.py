"""`grid_sample` in two and three dimensions, and its gradients.

A place reads K taps along each axis; element numbers and weights of a place are outer products of
one axis each.  Forward they are looked up.  The gradient to the image needs no scatter: it is a
product of matrices that hold the weights of every place along an axis.  The formulas, and the slope
0 at the border, are those of aten/src/ATen/native/GridSampler.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
_NEAREST, _CUBIC = 1, 2  # interpolation modes; 0 is linear
_BORDER, _REFLECTION = 1, 2  # padding modes; 0 is zeros
_A = -0.75  # of the cubic kernel


class Options(NamedTuple):
    interpolation: int
    padding: int
    align_corners: bool


class Taps(NamedTuple):
    """What places read along one axis, all [N, K, P].

    `slopes` are the derivatives of the weights with respect to the grid's coordinate; both are 0
    for taps outside of the image, whose numbers are moved inside.
    """

    numbers: Tensor
    weights: Tensor
    slopes: Tensor


@rule(aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def grid_sampler(x: Tensor, grid: Tensor, *options: Any) -> Tensor:
    """The image [N, C, *size] at places [N, *out, rank], whose last axis has the width first."""
    axes = _axes(x, grid, Options(*options))
    weight = _outer([axis.weights for axis in axes])
    terms = _values(x, axes) * weight.unsqueeze(1)
    return terms.sum(2).reshape(*x.shape[:2], *grid.shape[1:-1])


@rule(aten.grid_sampler_2d_backward.default, aten.grid_sampler_3d_backward.default)
def grid_sampler_backward(
    g: Tensor,
    x: Tensor,
    grid: Tensor,
    interpolation: int,
    padding: int,
    align_corners: bool,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor]:
    axes = _axes(x, grid, Options(interpolation, padding, align_corners))
    g = g.flatten(2)
    g_x = _image_gradient(g, x, axes) if mask[0] else None
    if interpolation == _NEAREST:
        return g_x, torch.zeros_like(grid)
    seen = (g.unsqueeze(2) * _values(x, axes)).sum(1)  # [N, taps, P]
    parts = [
        (seen * _outer([a.slopes if a is axis else a.weights for a in axes])).sum(1)
        for axis in reversed(axes)
    ]
    return g_x, torch.stack(parts, -1).reshape(grid.shape)


def _outer(factors: Sequence[Tensor]) -> Tensor:
    """[N, K, P] for each axis -> [N, K**rank, P], the last axis fastest."""
    total = factors[0]
    for factor in factors[1:]:
        total = (total.unsqueeze(2) * factor.unsqueeze(1)).flatten(1, 2)
    return total


def _values(x: Tensor, axes: Sequence[Taps]) -> Tensor:
    """What every tap reads: [N, C, K**rank, P]."""
    index = axes[0].numbers
    for size, axis in zip(x.shape[3:], axes[1:], strict=True):
        index = (index.unsqueeze(2) * size + axis.numbers.unsqueeze(1)).flatten(1, 2)
    read = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, read).reshape(*x.shape[:2], *index.shape[1:])


def _image_gradient(g: Tensor, x: Tensor, axes: Sequence[Taps]) -> Tensor:
    """[N, C * first, P] times [N, P, rest]: the weights of every place, by axis."""
    first, *rest = (
        _dense(axis, size).to(g.dtype) for axis, size in zip(axes, x.shape[2:], strict=True)
    )
    left = (g.unsqueeze(2) * first.unsqueeze(1)).flatten(1, 2)
    made = torch.bmm(left, _outer(rest).transpose(1, 2))
    return made.reshape(x.shape)


def _dense(axis: Taps, size: int) -> Tensor:
    """The weight of each element along an axis for each place: [N, size, P]."""
    own = torch.arange(size).reshape(1, size, 1, 1)
    is_read = axis.numbers.unsqueeze(1) == own
    return torch.where(is_read, axis.weights.unsqueeze(1), 0.0).sum(2)


# ----------------------------------------------------------------------------- along one axis


def _axes(x: Tensor, grid: Tensor, options: Options) -> list[Taps]:
    rank = x.dim() - 2
    return [
        _taps(grid[..., rank - 1 - axis].flatten(1), size, options)
        for axis, size in enumerate(x.shape[2:])
    ]


def _taps(coordinate: Tensor, size: int, options: Options) -> Taps:
    """From coordinates [N, P], -1 to 1 over the image."""
    if options.align_corners:
        place, scale = (coordinate + 1) / 2 * (size - 1), (size - 1) / 2
    else:
        place, scale = ((coordinate + 1) * size - 1) / 2, size / 2
    slope = torch.full_like(place, scale)
    if options.interpolation != _CUBIC:
        place, slope = _moved_inside(place, slope, size, options)
    if options.interpolation == _NEAREST:
        numbers = torch.round(place)[:, None]
        weights = torch.ones_like(numbers)
        return _inside(numbers, weights, torch.zeros_like(weights), size)
    low = torch.floor(place)
    rest = (place - low)[:, None]
    if options.interpolation == _CUBIC:
        k = torch.arange(-1, 3, dtype=place.dtype)[:, None]
        numbers, _ = _moved_inside(low[:, None] + k, slope[:, None], size, options)
        weights, slopes = _cubic(rest, k)
    else:
        k = torch.arange(2, dtype=place.dtype)[:, None]
        numbers, slopes = low[:, None] + k, 2 * k - 1
        weights = rest * slopes + (1 - k)
    return _inside(numbers, weights, slopes * slope[:, None], size)


def _inside(numbers: Tensor, weights: Tensor, slopes: Tensor, size: int) -> Taps:
    is_inside = (numbers >= 0) & (numbers <= size - 1)
    weights, slopes = (torch.where(is_inside, t, 0.0) for t in (weights, slopes))
    return Taps(numbers.clamp(0, size - 1).to(torch.int64), weights, slopes)


def _cubic(rest: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Keys' convolution kernel at the taps -1, 0, 1, 2, and its derivative."""
    sign = torch.where(k > 0, -1.0, 1.0)
    d, is_near = sign * (rest - k), (k == 0) | (k == 1)
    near = ((_A + 2) * d - (_A + 3)) * d * d + 1
    far = ((_A * d - 5 * _A) * d + 8 * _A) * d - 4 * _A
    near_slope = (3 * (_A + 2) * d - 2 * (_A + 3)) * d
    far_slope = (3 * _A * d - 10 * _A) * d + 8 * _A
    return torch.where(is_near, near, far), sign * torch.where(is_near, near_slope, far_slope)


def _moved_inside(
    place: Tensor, slope: Tensor, size: int, options: Options
) -> tuple[Tensor, Tensor]:
    """Places in the image, and `slope` times the derivative of the move."""
    if options.padding not in (_BORDER, _REFLECTION):
        return place, slope
    if options.padding == _REFLECTION:
        low, high = (0.0, size - 1.0) if options.align_corners else (-0.5, size - 0.5)
        place, slope = _reflected(place, slope, low, high - low)
    last = float(size - 1)
    is_within = (place > 0) & (place < last)
    return place.clamp(0.0, last), torch.where(is_within, slope, 0.0)


def _reflected(place: Tensor, slope: Tensor, low: float, span: float) -> tuple[Tensor, Tensor]:
    if span == 0:
        return torch.zeros_like(place), torch.zeros_like(slope)
    distance = place - low
    slope = torch.where(distance < 0, -slope, slope)
    distance = torch.abs(distance)
    rest = torch.fmod(distance, span)
    is_even = torch.remainder(torch.floor(distance / span), 2) == 0
    place = torch.where(is_even, rest, span - rest) + low
    return place, torch.where(is_even, slope, -slope)

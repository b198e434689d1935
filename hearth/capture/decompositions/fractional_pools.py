"""Fractional max pools: windows at random places, which are looked up.

PyTorch draws one number per plane and axis; `hearth.rand` answers that draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Ints = Sequence[int]


def _fractional_starts(samples: Tensor, size: int, out: int, kernel: int) -> Tensor:
    """[N, C] random numbers -> [N, C, out] first elements; the last window ends with the axis.

    PyTorch's generate_intervals (aten/src/ATen/native/FractionalMaxPool2d.cpp).
    """
    last = torch.full((*samples.shape, 1), size - kernel, dtype=torch.int64)
    if out == 1:
        return last
    alpha = (size - kernel) / (out - 1)
    sample = samples.unsqueeze(-1)
    moved = (torch.arange(out - 1, dtype=samples.dtype) + sample) * alpha
    starts = torch.trunc(moved) - torch.trunc(sample * alpha)
    return torch.cat([starts.to(torch.int64), last], -1)


def _fractional_max_pool(
    order: Ints, x: Tensor, kernel: Ints, out: Ints, samples: Tensor
) -> tuple[Tensor, Tensor]:
    """Values and indices; `order` says which random number belongs to each axis."""
    rank, lead = len(order), list(x.shape[: x.dim() - len(order)])
    batched, index = [*([1] * (2 - len(lead))), *lead], None
    numbers = samples.reshape(-1, rank)[: math.prod(batched)].reshape(*batched, rank)
    for axis, (size, extent, taps) in enumerate(zip(x.shape[-rank:], out, kernel, strict=True)):
        starts = _fractional_starts(numbers[..., order[axis]], size, extent, taps)
        places = starts.unsqueeze(-1) + torch.arange(taps)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = extent, taps
        places = places.reshape(*batched, *shape)
        index = places if index is None else index * size + places
    assert index is not None
    flat = index.flatten(2).expand(*batched, -1)
    read = x.reshape(*batched, math.prod(x.shape[-rank:])).gather(2, flat)
    read = read.reshape(*batched, *out, math.prod(kernel))
    values, tap = read.max(-1)
    chosen = flat.reshape(read.shape).gather(-1, tap.unsqueeze(-1)).squeeze(-1)
    return values.reshape(*lead, *out), chosen.reshape(*lead, *out)


@rule(aten.fractional_max_pool2d.default)
def fractional_max_pool2d(x: Tensor, kernel: Ints, out: Ints, samples: Tensor) -> Any:
    return _fractional_max_pool((1, 0), x, kernel, out, samples)


@rule(aten.fractional_max_pool3d.default)
def fractional_max_pool3d(x: Tensor, kernel: Ints, out: Ints, samples: Tensor) -> Any:
    return _fractional_max_pool((0, 1, 2), x, kernel, out, samples)


@rule(aten.fractional_max_pool2d_backward.default, aten.fractional_max_pool3d_backward.default)
def fractional_max_pool_backward(
    g: Tensor, x: Tensor, kernel: Ints, out: Ints, indices: Tensor
) -> Tensor:
    rank = len(out)
    zeros = torch.zeros_like(x).flatten(-rank)
    return zeros.scatter_add(-1, indices.flatten(-rank), g.flatten(-rank)).reshape(x.shape)

"""Distances between all pairs of rows (`cdist`, `pdist`) and their gradients.

Every function works on differences along the last axis; the formulas for the orders 0, 1, 2 and
infinity are PyTorch's (aten/src/ATen/native/cpu/DistanceOpsKernel.cpp).
"""

from __future__ import annotations

import math

import torch

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.tables import constant

Tensor = torch.Tensor


def _distance(difference: Tensor, order: float) -> Tensor:
    """The norm along the last axis; order 0 counts what is not zero."""
    size = torch.abs(difference)
    if difference.shape[-1] == 0:
        return size.sum(-1)
    if order == 0:
        return (size != 0).to(size.dtype).sum(-1)
    if order == 1:
        return size.sum(-1)
    if order == 2:
        return torch.sqrt((difference * difference).sum(-1))
    if order == math.inf:
        return torch.amax(size, -1)
    return torch.pow(torch.pow(size, order).sum(-1), 1 / order)


def _gradient(g: Tensor, difference: Tensor, distance: Tensor, order: float) -> Tensor:
    """The gradient of a distance with respect to the difference; 0 where rows are equal."""
    g, distance = g.unsqueeze(-1), distance.unsqueeze(-1)
    size, sign = torch.abs(difference), torch.sign(difference)
    if order == 0:
        return g * difference * 0
    if order == 1:
        return g * sign
    if order == math.inf:
        return g * sign * (size == distance)
    if order == 2:
        return torch.where(distance == 0, 0.0, g * difference / distance)
    scaled = g * sign * torch.pow(size, order - 1) / torch.pow(distance, order - 1)
    is_flat = (distance == 0) | ((difference == 0) if order < 1 else (distance == 0))
    return torch.where(is_flat, 0.0, scaled)


def _differences(a: Tensor, b: Tensor) -> Tensor:
    """[..., P, M] and [..., R, M] -> [..., P, R, M]."""
    return a.unsqueeze(-2) - b.unsqueeze(-3)


@rule(aten._cdist_forward.default)
def cdist(a: Tensor, b: Tensor, order: float, compute_mode: int | None = None) -> Tensor:
    return _distance(_differences(a, b), order)


@rule(aten._cdist_backward.default)
def cdist_backward(g: Tensor, a: Tensor, b: Tensor, order: float, distance: Tensor) -> Tensor:
    """With respect to a; the one to b is PyTorch's call with a and b swapped."""
    return _gradient(g, _differences(a, b), distance, order).sum(-2)


def _pairs(count: int) -> tuple[Tensor, Tensor]:
    """The rows i < j of every pair, in order."""
    first = constant(lambda: torch.triu_indices(count, count, 1)[0])
    return first, constant(lambda: torch.triu_indices(count, count, 1)[1])


@rule(aten._pdist_forward.default)
def pdist(x: Tensor, order: float = 2.0) -> Tensor:
    if len(x) < 2:
        return x.new_empty(0)
    first, second = _pairs(len(x))
    return _distance(torch.index_select(x, 0, first) - torch.index_select(x, 0, second), order)


def _incidence(count: int) -> Tensor:
    """[rows, pairs]: 1 for the first row of a pair, -1 for the second."""
    first, second = torch.triu_indices(count, count, 1)
    matrix = torch.zeros(count, len(first), dtype=torch.float64)
    matrix[first, torch.arange(len(first))] = 1
    matrix[second, torch.arange(len(first))] = -1
    return matrix


@rule(aten._pdist_backward.default)
def pdist_backward(g: Tensor, x: Tensor, order: float, distance: Tensor) -> Tensor:
    if len(x) < 2 or x.shape[1] == 0:
        return torch.zeros_like(x)
    first, second = _pairs(len(x))
    difference = torch.index_select(x, 0, first) - torch.index_select(x, 0, second)
    moved = _gradient(g, difference, distance, order)
    return constant(lambda: _incidence(len(x)), x) @ moved

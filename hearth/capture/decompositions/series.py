"""Sums of powers and of Chebyshev polynomials: what special functions are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Tensor = torch.Tensor


def as_float(x: Tensor) -> Tensor:
    """X itself, or an integer in PyTorch's default type."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Horner's rule; the highest power comes first."""
    total = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        total = total * x + c
    return total


def ratio(x: Tensor, above: Sequence[float], below: Sequence[float]) -> Tensor:
    return polynomial(x, above) / polynomial(x, below)


def chebyshev(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Clenshaw's recurrence on (-2, 2); the last polynomial comes first (Cephes chbevl)."""
    before, last = torch.zeros_like(x), torch.full_like(x, coefficients[0])
    oldest = before
    for c in coefficients[1:]:
        oldest, before = before, last
        last = x * before - oldest + c
    return 0.5 * (last - oldest)

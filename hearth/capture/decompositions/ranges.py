"""Evenly spaced numbers."""

from __future__ import annotations

from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.tables import constant

Tensor = torch.Tensor
Scalar = float | int


@rule(aten.linspace.default)
def linspace(
    start: Scalar, end: Scalar, steps: int, *, dtype: torch.dtype | None = None, **_: Any
) -> Tensor:
    """Upwards from the start, and in the second half down from the end, as PyTorch rounds.

    Whole numbers are a table: PyTorch computes them in float64, which no device has.
    """
    dtype = dtype or torch.get_default_dtype()
    if not dtype.is_floating_point:
        return constant(lambda: torch.linspace(start, end, steps, dtype=dtype))
    if steps <= 1:
        return torch.full((steps,), float(start), dtype=dtype)
    step = (float(end) - float(start)) / (steps - 1)
    number = torch.arange(steps, dtype=dtype)
    down = end - step * (steps - 1 - number)
    return torch.where(number < steps // 2, start + step * number, down)

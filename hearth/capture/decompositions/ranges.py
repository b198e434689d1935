"""Evenly spaced numbers."""

from __future__ import annotations

from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.tables import constant

Tensor = torch.Tensor
Scalar = float | int


@rule(
    aten.linspace.default,
    aten.linspace.Tensor_Tensor,
    aten.linspace.Tensor_Scalar,
    aten.linspace.Scalar_Tensor,
)
def linspace(
    start: Scalar | Tensor,
    end: Scalar | Tensor,
    steps: int,
    *,
    dtype: torch.dtype | None = None,
    **_: Any,
) -> Tensor:
    """Upwards from the start, and in the second half down from the end, as PyTorch rounds."""
    dtype = dtype or torch.get_default_dtype()
    if not dtype.is_floating_point:
        return _whole_numbers(start, end, steps, dtype)
    # Numbers stay numbers: a table of them would be rounded before they are divided.
    first, last = (x.to(dtype) if isinstance(x, Tensor) else float(x) for x in (start, end))
    if steps <= 1:
        return torch.zeros(steps, dtype=dtype) + first
    step = (last - first) / (steps - 1)
    number = torch.arange(steps, dtype=dtype)
    down = last - step * (steps - 1 - number)
    return torch.where(number < steps // 2, first + step * number, down)


def _whole_numbers(
    start: Scalar | Tensor, end: Scalar | Tensor, steps: int, dtype: torch.dtype
) -> Tensor:
    """The ends are cut to whole numbers first; PyTorch goes on in float64, this in integers."""
    if not isinstance(start, Tensor) and not isinstance(end, Tensor):
        return constant(lambda: torch.linspace(start, end, steps, dtype=dtype))
    first, last = (torch.as_tensor(x).to(torch.long) for x in (start, end))
    number = torch.arange(steps)
    parts = max(steps - 1, 1)
    sum_of_parts = first * (parts - number) + last * number
    return torch.div(sum_of_parts, parts, rounding_mode="trunc").to(dtype)

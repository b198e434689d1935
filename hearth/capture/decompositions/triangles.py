"""The coordinates of a triangle of a matrix: known while tracing, hence constants."""

from __future__ import annotations

from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.tables import constant

Tensor = torch.Tensor


@rule(aten.tril_indices.default)
def tril_indices(row: int, col: int, offset: int = 0, **options: Any) -> Tensor:
    return constant(lambda: torch.tril_indices(row, col, offset, dtype=options["dtype"])).clone()


@rule(aten.triu_indices.default)
def triu_indices(row: int, col: int, offset: int = 0, **options: Any) -> Tensor:
    return constant(lambda: torch.triu_indices(row, col, offset, dtype=options["dtype"])).clone()

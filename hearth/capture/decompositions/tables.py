"""Tables computed while tracing: constants of the graph, and products with them along one axis.

A linear map of one axis (resampling, adaptive averages) is a matrix known now; its gradient is the
product with the transposed matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import _disable_current_modes

Tensor = torch.Tensor


def constant(make: Callable[[], Tensor], like: Tensor | None = None) -> Tensor:
    """A table computed now, as a constant of the graph; in the element type of `like`."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        table = make()
    return table if like is None else table.to(like.dtype)


def is_identity(matrix: Tensor) -> bool:
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        rows, columns = matrix.shape
        return rows == columns and bool((matrix == torch.eye(rows, dtype=matrix.dtype)).all())


def times_matrix(x: Tensor, axis: int, matrix: Tensor, transposed: bool = False) -> Tensor:
    """y[..., o, ...] is the sum over i of matrix[o, i] * x[..., i, ...], for one axis of x.

    `matrix` comes from `constant`; the gradient is the product with it `transposed`.
    """
    if is_identity(matrix):
        return x
    last_first = x.movedim(axis, -1)
    table = matrix.to(x.dtype)
    rows = last_first.reshape(-1, x.shape[axis]) @ (table if transposed else table.t())
    return rows.reshape(*last_first.shape[:-1], rows.shape[1]).movedim(-1, axis)

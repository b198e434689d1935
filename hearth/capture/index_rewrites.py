"""Rewrites above autograd of writes by index, where PyTorch's gradient has a shape that depends on
values.

What they become is differentiable and has one shape (`scatters.py` and `index_puts.py` among the
decompositions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hearth.capture.decompositions import index_puts, scatters
from hearth.capture.decompositions.lookups import MASKS

Tensor = torch.Tensor
INDEX_REWRITES: dict[Any, Callable[..., Any]] = {}


def _rewrite(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        INDEX_REWRITES.update(dict.fromkeys(functions, rule))
        return rule

    return register


def _needs_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


@_rewrite(torch.index_fill, Tensor.index_fill)
def _index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Any:  # noqa: A002
    if not _needs_gradient(value):
        return NotImplemented
    return scatters.index_fill(input, dim, index, value)


@_rewrite(torch.index_put, Tensor.index_put)
def _index_put(
    input: Tensor,  # noqa: A002
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
) -> Any:
    masks = [i for i in indices if i is not None and i.dtype in MASKS]
    if not masks or not _needs_gradient(values):
        return NotImplemented
    return index_puts.index_put(input, indices, values, accumulate)


@_rewrite(Tensor.__setitem__)
def _set_item(x: Tensor, key: Any, value: Any) -> Any:
    is_mask = isinstance(key, Tensor) and key.dtype == torch.bool and key.dim() > 0
    if not is_mask or not _needs_gradient(value):
        return NotImplemented
    x.copy_(index_puts.index_put(x, [key], value))
    return None

"""Orthogonal polynomials of any order, by their three-term recurrences.

A number for the order takes as many steps; a tensor of orders takes `LAST_ORDER` steps, of which
each element picks one, and gives NaN above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hearth.capture.decompositions.registry import RULES, aten

Tensor = torch.Tensor
LAST_ORDER = 64


@dataclass(frozen=True)
class Family:
    """P(0) = 1, `first(x)` is P(1), and `following(k, x, P(k), P(k-1))` is P(k+1)."""

    first: Callable[[Tensor], Tensor]
    following: Callable[[int, Tensor, Tensor, Tensor], Tensor]


def _chebyshev(first: Callable[[Tensor], Tensor]) -> Family:
    return Family(first, lambda _, x, q, p: 2 * x * q - p)


_CHEBYSHEV = {
    "t": _chebyshev(lambda x: x),
    "u": _chebyshev(lambda x: 2 * x),
    "v": _chebyshev(lambda x: 2 * x - 1),
    "w": _chebyshev(lambda x: 2 * x + 1),
}
_FAMILIES = {
    **{f"chebyshev_polynomial_{kind}": family for kind, family in _CHEBYSHEV.items()},
    **{f"shifted_chebyshev_polynomial_{kind}": family for kind, family in _CHEBYSHEV.items()},
    "hermite_polynomial_h": Family(lambda x: 2 * x, lambda k, x, q, p: 2 * x * q - 2 * k * p),
    "hermite_polynomial_he": Family(lambda x: x, lambda k, x, q, p: x * q - k * p),
    "laguerre_polynomial_l": Family(
        lambda x: 1 - x, lambda k, x, q, p: ((2 * k + 1 - x) * q - k * p) / (k + 1)
    ),
    "legendre_polynomial_p": Family(
        lambda x: x, lambda k, x, q, p: ((2 * k + 1) * x * q - k * p) / (k + 1)
    ),
}


def _of_order(family: Family, x: Tensor, order: int) -> Tensor:
    if order < 1:
        return torch.full_like(x, float(order == 0))
    before, last = torch.ones_like(x), family.first(x)
    for k in range(1, order):
        before, last = last, family.following(k, x, last, before)
    return last


def _of_orders(family: Family, x: Tensor, order: Tensor) -> Tensor:
    order = torch.trunc(order) if order.is_floating_point() else order
    before, last = torch.ones_like(x), family.first(x)
    found = torch.where(order == 0, 1.0, torch.where(order > LAST_ORDER, math.nan, 0.0))
    found = torch.where(order == 1, last, found.to(x.dtype))
    for k in range(1, LAST_ORDER):
        before, last = last, family.following(k, x, last, before)
        found = torch.where(order == k + 1, last, found)
    return found


def _rule(name: str, family: Family) -> Callable[..., Tensor]:
    def compute(x: Any, order: Any) -> Tensor:
        dtype = torch.result_type(x, order)
        dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
        x = torch.as_tensor(x, dtype=dtype)
        x = 2 * x - 1 if name.startswith("shifted") else x
        if isinstance(order, Tensor):
            return _of_orders(family, x, order)
        return _of_order(family, x, int(order))

    return compute


for _name, _family in _FAMILIES.items():
    _operator = getattr(aten, f"special_{_name}")
    for _overload in ("default", "x_scalar", "n_scalar"):
        RULES[getattr(_operator, _overload)] = _rule(_name, _family)

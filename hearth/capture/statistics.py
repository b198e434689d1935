"""Functions whose own code looks at values while it runs, written without that.

Rewrites above autograd, as in `rewrites.py`: weights of a covariance are trusted to be valid, and
combinations are a lookup by a table.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils._python_dispatch import _disable_current_modes

Tensor = torch.Tensor


def linear_cross_entropy(*args: Any, options: Any = None, **kwargs: Any) -> Any:
    """The options only say in which pieces it is computed."""
    return NotImplemented if options is None else F.linear_cross_entropy(*args, **kwargs)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:  # noqa: A002
    if r == 0:
        return input.new_zeros(0)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(len(input)), r))
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        table = torch.tensor(rows, dtype=torch.long).reshape(-1, r)
    return torch.index_select(input, 0, table.reshape(-1)).reshape(table.shape)


def cov(
    input: Tensor,  # noqa: A002
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Any:
    x = input if input.dim() == 2 else input.reshape(1, -1)
    given = [w for w in (fweights, aweights) if w is not None]
    if not given:
        x = x - x.sum(1, keepdim=True) / x.shape[1]
        return ((x @ x.t()) / max(x.shape[1] - correction, 0)).squeeze()
    weights = given[0] * given[1] if len(given) == 2 else given[0]
    total = weights.sum()
    lost = correction if aweights is None else correction * (weights * aweights).sum() / total
    x = x - (x * weights).sum(1, keepdim=True) / total
    freedom = torch.clamp(total - lost, min=0)
    return ((x @ (x * weights).to(x.dtype).t()) / freedom).squeeze()


def corrcoef(input: Tensor) -> Any:  # noqa: A002
    covariance = cov(input)
    if covariance.dim() == 0:
        return covariance / covariance
    deviation = covariance.diagonal().sqrt()
    return covariance / deviation.unsqueeze(1) / deviation


STATISTICS: dict[Any, Any] = {
    F.linear_cross_entropy: linear_cross_entropy,
    torch.combinations: combinations,
    **dict.fromkeys((torch.cov, Tensor.cov), cov),
    **dict.fromkeys((torch.corrcoef, Tensor.corrcoef), corrcoef),
}

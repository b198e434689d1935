"""Lookups, scatters, sorts and scans, forward and gradient, captured in float64, equal PyTorch.

Every case has the batch in it, which PyTorch's own samples have not.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.capture.scaled import Function, assert_equals_pytorch

ROW, MATRIX = (12,), (3, 4)
AIMS = torch.tensor([5, 0, 5, 11, 2])  # one of them twice
ENDS = torch.tensor([True, False, True])
GRID = torch.tensor([[0, 2, 1], [2, 2, 0]])


def places(x: torch.Tensor, columns: int = 12) -> torch.Tensor:
    """A different column for every row, without reading x."""
    return (torch.arange(len(x)) * 5 + 3) % columns


def rows(x: torch.Tensor, count: int) -> torch.Tensor:
    return (torch.arange(len(x))[:, None] * 7 + torch.arange(count) * 5) % 12


def written(x: torch.Tensor, index: Any, value: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[index] = value
    return y


LOOKUPS: dict[str, Function] = {
    "gather of many": lambda x: x.gather(1, rows(x, 20)),
    "gather over the batch": lambda x: x.gather(0, (rows(x, 5) % len(x))),
    "take along an axis": lambda x: torch.take_along_dim(x, x.argsort(1), 1),
    "take": lambda x: x.take(torch.tensor([[0, 5], [-1, 7]])) * x.sum(),
    "one of each row": lambda x: x[torch.arange(len(x)), places(x)],
    "two indices": lambda x: x.reshape(-1, 3, 4)[:, GRID, GRID.T[:, :1, None] + 1],
    "two indices apart": lambda x: x.reshape(-1, 3, 4)[places(x, 2), :, places(x, 4)],
    "two indices into a matrix of the batch": lambda x: (x @ x.T)[
        torch.arange(len(x)), torch.arange(len(x)).flip(0)
    ],
    "rows of the batch": lambda x: x[torch.arange(len(x)).flip(0)],
    "embedding of labels": lambda x: F.embedding(places(x), x[:1].T.expand(12, 5)),
}
SCATTERS: dict[str, Function] = {
    "scatter": lambda x: x.new_zeros(len(x), 30).scatter(1, rows(x, 12), x),
    "scatter a number": lambda x: x.scatter(1, rows(x, 3), 0.5),
    "scatter a part": lambda x: x.scatter(1, rows(x, 3)[:1], x[:1, 2:5]),
    "scatter, added": lambda x: (x * 0).scatter_add(1, AIMS.expand(len(x), 5), x[:, 3:8]),
    "scatter over the batch": lambda x: x.new_ones(3, 12).scatter_add(0, rows(x, 12) % 3, x),
    "scatter, product": lambda x: x.scatter_reduce(1, AIMS.expand(len(x), 5), x[:, 3:8], "prod"),
    "scatter, mean": lambda x: x.scatter_reduce(
        1, AIMS.expand(len(x), 5), x[:, 3:8], "mean", include_self=False
    ),
    "scatter, maximum": lambda x: x.scatter_reduce(1, AIMS.expand(len(x), 5), x[:, 3:8], "amax"),
    "index add": lambda x: x.index_add(1, AIMS, x[:, :5], alpha=2),
    "index add over the batch": lambda x: x.new_zeros(4, 12).index_add(0, places(x, 4), x),
    "index copy": lambda x: x.index_copy(1, AIMS[1:], x[:, :4]),
    "index fill": lambda x: x.index_fill(1, AIMS, 3.0),
    "index reduce": lambda x: x.index_reduce(1, AIMS, x[:, :5], "amin") * 2,
    "one of each row written": lambda x: written(x, (torch.arange(len(x)), places(x)), x[:, 0]),
    "columns written": lambda x: written(x, (slice(None), AIMS[1:]), x[:, 2:6]),
    "mask written with a gradient": lambda x: written(x, x > 0.3, x.sum()),
    "filled with a gradient": lambda x: x.index_fill(1, AIMS, x.sum()),
    "repeated by counts": lambda x: x.T[:5].repeat_interleave(AIMS, 0, output_size=23),
    "mask written": lambda x: written(x, (x > 0.3,), torch.tensor(0.7)),
    "matrix of the batch written": lambda x: written(
        x @ x.T, (torch.arange(len(x)), places(x, 2) * 0), x[:, 0]
    ),
    "mask and a column written": lambda x: written(
        x, (x[:, 0] > 0.3, AIMS[:1]), torch.tensor(0.75, dtype=x.dtype)
    ),
    "mask and columns written with a gradient": lambda x: x.index_put(
        (x[:, 0] > 0.3, AIMS[1:, None]), x.sum()
    ),
    "mask and one column of each hit": lambda x: x.T.reshape(3, 4, -1).index_put(
        (ENDS, AIMS[[1, 4]]), x[:, :2].T
    ),
    "mask and one column of each hit, added": lambda x: x.T.reshape(3, 4, -1).index_put(
        (ENDS, AIMS[[4, 4]]), x[:, :2].T, accumulate=True
    ),
    "masked scatter": lambda x: x.masked_scatter(x > 0, x.flip(1) * 2),
    "diagonal written": lambda x: x.reshape(-1, 3, 4).diagonal_scatter(x[:, :3], 1, 1, 2),
    "steps written": lambda x: x.slice_scatter(x[:, :4], 1, 1, 12, 3),
    "k-means update": lambda x: F.one_hot(places(x, 3), 3).to(x.dtype).T @ x,
}
ORDERS: dict[str, Function] = {
    "sort": lambda x: x.sort(1)[0] * torch.arange(12),
    "sort, descending": lambda x: x.sort(1, descending=True)[0] * torch.arange(12),
    "sort of the batch": lambda x: x.sort(0)[0] * torch.arange(len(x))[:, None],
    "largest three": lambda x: x.topk(3)[0],
    "smallest three": lambda x: x.topk(3, 1, largest=False)[0],
    "third smallest": lambda x: x.kthvalue(3, 1)[0],
    "median": lambda x: x.median(1)[0],
    "median of all": lambda x: x.median() * x,
    "median without NaN": lambda x: torch.where(x > 1, torch.nan, x).nanmedian(1)[0],
    "quantiles": lambda x: x.quantile(torch.tensor([0.125, 0.75], dtype=x.dtype), 1),
    "mode": lambda x: x.mode(1)[0],
    "largest with its place": lambda x: x.max(1)[0] * x.min(1)[0],
    "place among limits": lambda x: x * torch.bucketize(x.detach(), torch.tensor([-1.0, 0.0, 0.5])),
    "place in sorted rows": lambda x: x * torch.searchsorted(x.detach().sort(1)[0], x.detach()),
    "is in": lambda x: x * torch.isin(places(x), torch.tensor([3, 8]))[:, None],
    "histogram of equal bins": lambda x: x * x.detach().histc(5, -1, 1).sum(),
    "histogram": lambda x: x * x.detach().histogram(torch.tensor([-1, 0, 0.4]).to(x))[0][1],
}
SCANS: dict[str, Function] = {
    "cumulative sum": lambda x: x.cumsum(1),
    "cumulative sum of the batch": lambda x: x.cumsum(0),
    "cumulative sum of many": lambda x: x.repeat(1, 7).cumsum(1),
    "cumulative product": lambda x: x.cumprod(1),
    "cumulative logarithm": lambda x: x.logcumsumexp(1),
    "cumulative logarithm of many": lambda x: (x.repeat(1, 7) * 30).logcumsumexp(1),
    "largest so far": lambda x: x.cummax(1)[0],
    "smallest so far, of many": lambda x: x.repeat(1, 7).cummin(1)[0],
    "trapezoids": lambda x: torch.cumulative_trapezoid(x, dim=1),
}
CASES = {**LOOKUPS, **SCATTERS, **ORDERS, **SCANS}


@pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_function_and_its_gradient_equal_pytorch(name: str) -> None:
    assert_equals_pytorch(CASES[name], ROW)

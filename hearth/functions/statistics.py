"""What a tensor holds, in a few numbers: moments, extremes, a histogram, units that never fire.

Elements that are not finite are counted and then left out, so that one NaN does not hide the rest.
The bins of a histogram hold still while a run goes on: their range is a power of two, and where it
doubles, two neighbouring bins become one, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

STATISTICS: Final = ("mean", "std", "min", "max", "zeros", "nan", "inf", "norm", "limit")
BINS: Final = 64
ROW: Final = 64  # a part of a flat vector begins at a multiple of so many elements
_LARGEST: Final = torch.finfo(torch.float32).max
_POWERS: Final = tuple(2.0**k for k in range(-100, 128))


class Description(NamedTuple):
    """`statistics` in the order of `STATISTICS`, [..., 9], and `histogram`, [..., BINS]."""

    statistics: Tensor
    histogram: Tensor


def describe(x: Tensor) -> Description:
    """Nine numbers and a histogram of a vector [N]: [9] and [BINS].

    Mean, standard deviation (of the population), least and largest element and Euclidean norm are
    those of the finite elements, 0 where there is none.  `zeros` is the share of all elements that
    are exactly 0, `nan` and `inf` are counts, and `limit` is the least power of two, from 2^-100
    on, that no finite element reaches in magnitude.

    The histogram counts the finite elements in `BINS` equal bins from -limit to limit.  A bin holds
    its lower edge.

    >>> found = describe(torch.tensor([0.0, 3.0, -1.0, float("nan")]))
    >>> found.statistics.tolist()[2:7], found.histogram.nonzero().flatten().tolist()
    ([-1.0, 3.0, 0.25, 1.0, 0.0], [24, 32, 56])
    """
    return _describe(x, x.abs() <= _LARGEST, x.new_ones(()).bool(), _Whole())


def describe_parts(x: Tensor, offsets: Sequence[int], sizes: Sequence[int]) -> Description:
    """The same of every part of a flat vector: [parts, 9] and [parts, BINS].

    A part begins at a multiple of `ROW`, and so does the next; what lies between is left out.

    >>> found = describe_parts(torch.arange(128.0), [0, 64], [2, 3])
    >>> found.statistics[:, 0].tolist()
    [0.5, 65.0]
    """
    parts = _Parts(offsets, sizes, x.numel() // ROW)
    rows = x.reshape(-1, ROW)
    inside = torch.arange(ROW) < parts.lengths[:, None]
    return _describe(rows, inside & (rows.abs() <= _LARGEST), inside, parts)


def silent(x: Tensor, axis: int) -> Tensor:
    """The share of a unit's outputs that are exactly zero, along the axis of the units: [units].

    >>> silent(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 1).tolist()
    [1.0, 0.5]
    """
    return _share(x == 0, axis)


def saturated(x: Tensor, axis: int, low: float, high: float) -> Tensor:
    """The share of a unit's outputs that lie below `low` or above `high`: [units].

    >>> saturated(torch.tensor([[0.99, 0.1], [-0.98, 0.98]]), 1, -0.97, 0.97).tolist()
    [1.0, 0.5]
    """
    return _share((x < low) | (x > high), axis)


def update_ratios(update: Tensor, parameter: Tensor) -> Tensor:
    """The norms of updates relative to those of their parameters before: [parts].

    Both are `statistics` of `describe_parts`.  A part that does not move has 0, one that moves away
    from zero infinity.

    >>> old, change = torch.tensor([3.0, 4.0]).repeat(32), torch.tensor([0.3, 0.4]).repeat(32)
    >>> found = [describe_parts(x, [0], [2]).statistics for x in (change, old)]
    >>> update_ratios(*found).tolist()
    [0.10000000149011612]
    """
    norm = STATISTICS.index("norm")
    moved = update[:, norm]
    return torch.where(moved == 0, 0.0, moved / parameter[:, norm])


class _Whole:
    """One tensor is one part."""

    def sum(self, x: Tensor) -> Tensor:
        return x.sum()

    def amin(self, x: Tensor) -> Tensor:
        return x.amin()

    def amax(self, x: Tensor) -> Tensor:
        return x.amax()

    def spread(self, parts: Tensor) -> Tensor:
        return parts

    def count(self, bins: Tensor) -> Tensor:
        return (bins[:, None] == torch.arange(BINS)).sum(0)


class _Parts:
    """Rows of a flat vector, each of which belongs to one part."""

    def __init__(self, offsets: Sequence[int], sizes: Sequence[int], rows: int) -> None:
        owners, lengths = [-1] * rows, [0] * rows
        for part, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            for row in range(-(-size // ROW)):
                owners[offset // ROW + row] = part
                lengths[offset // ROW + row] = min(ROW, size - row * ROW)
        # Made of lists at once: a program that is traced would repeat every assignment.
        self.owners, self.lengths = torch.tensor(owners), torch.tensor(lengths)
        self.mine = self.owners == torch.arange(len(sizes))[:, None]  # [parts, rows]

    def sum(self, x: Tensor) -> Tensor:
        rows = x.sum(1)
        return torch.where(self.mine, rows, torch.zeros((), dtype=rows.dtype)).sum(1)

    def amin(self, x: Tensor) -> Tensor:
        return torch.where(self.mine, x.amin(1), _LARGEST).amin(1)

    def amax(self, x: Tensor) -> Tensor:
        return torch.where(self.mine, x.amax(1), -_LARGEST).amax(1)

    def spread(self, parts: Tensor) -> Tensor:
        return parts[self.owners.clamp(min=0)][:, None]

    def count(self, bins: Tensor) -> Tensor:
        rows = (bins[:, :, None] == torch.arange(BINS)).sum(1).float()  # whole numbers below 2^24
        return (self.mine.float() @ rows).long()


def _describe(x: Tensor, finite: Tensor, inside: Tensor, over: _Whole | _Parts) -> Description:
    values = torch.where(finite, x, 0.0)
    count = over.sum(finite)
    divisor = count.clamp(min=1)
    mean = over.sum(values) / divisor
    square = torch.where(finite, x - over.spread(mean), 0.0).square()
    least = over.amin(torch.where(finite, x, _LARGEST))
    most = over.amax(torch.where(finite, x, -_LARGEST))
    limit = _limit(torch.where(count > 0, torch.maximum(most, -least), 0.0))
    elements = over.sum(inside.expand(x.shape))
    moments = (
        mean,
        (over.sum(square) / divisor).sqrt(),
        torch.where(count > 0, least, 0.0),
        torch.where(count > 0, most, 0.0),
        over.sum(inside & (x == 0)) / elements,
        over.sum(inside & x.isnan()),
        over.sum(inside & x.isinf()),
        over.sum(values.square()).sqrt(),
        limit,
    )
    half = BINS // 2
    # A power of two times an element is exact, so every device finds the same bin.
    bins = (values * (half / over.spread(limit))).floor().clamp(max=half - 1) + half
    counts = over.count(torch.where(finite, bins, -1.0))
    return Description(torch.stack([m.to(x.dtype) for m in moments], -1), counts)


def _limit(magnitudes: Tensor) -> Tensor:
    powers = torch.tensor(_POWERS, dtype=magnitudes.dtype)
    # An element at the limit would have no bin: the one above it begins there in the double range.
    return torch.where(powers > magnitudes[..., None], powers, _LARGEST).amin(-1)


def _share(found: Tensor, axis: int) -> Tensor:
    others = [k for k in range(found.dim()) if k != axis % found.dim()]
    return found.float().mean(others) if others else found.float()

"""Convolutions along one axis with fewer products: tiles of results, by minimal filtering.

    result = A^T [(G taps) * (B^T data)]

F(m, r), m results of a filter of r taps by m + r - 1 products, is a polynomial product by
evaluation at points and interpolation (Cook, Toom), transposed; one point is infinity.  A stride
takes data, filter and (in the gradient) results apart into those of equal remainder: parts of
stride 1, whose matrices are put together as one.  Matrices are exact: rounding them to float32 is
up to whoever emits code.

Source: A. Lavin, S. Gray, Fast algorithms for convolutional neural networks, CVPR 2016; choice of
points: B. Barabasz et al., Error analysis and improving the accuracy of Winograd convolution, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]

# By their number, without infinity.  Pairs of opposite points share most of their arithmetic.  The
# choice decides the error: for F(4, 3), 5/8 and 3/2 give less than half that of 1 and 2 (Lavin &
# Gray) in all three passes, at the same cost; for F(2, 2), 5/8 and -5/8 seven tenths of 0 and 1.
POINTS = {
    2: (Fraction(5, 8), Fraction(-5, 8)),
    3: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(1, 2), Fraction(-1, 2), Fraction(5, 4), Fraction(-5, 4)),
    5: (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
}


@dataclass(frozen=True)
class Filtering:
    """What takes one tile after the other from data to results."""

    data: Matrix  # B^T, a row for each product
    filter: Matrix  # G, the same
    result: Matrix  # A^T, a column for each product
    step: int  # from the data of a tile to those of the next
    padding: int  # zeros before the data, or what is left out where it is negative

    @property
    def outputs(self) -> int:
        """Results of a tile."""
        return len(self.result)

    @property
    def inputs(self) -> int:
        """Data of a tile."""
        return len(self.data[0])

    @property
    def taps(self) -> int:
        return len(self.filter[0])

    @property
    def size(self) -> int:
        """Products of a tile."""
        return len(self.data)


@dataclass(frozen=True)
class _Part:
    """F(m, r) on some of the taps, data and results of a tile."""

    taps: Sequence[int]
    data: Sequence[int]
    results: Sequence[int]


@cache
def filtering(outputs: int, taps: int, stride: int = 1, padding: int = 0) -> Filtering:
    """A tile of result[o] = sum over t of data[stride · o + t - padding] filter[t]."""
    parts = []
    for first in range(stride):
        own = range(first, taps, stride)
        data = [first + stride * i for i in range(outputs + len(own) - 1)]
        parts.append(_Part(own, data, range(outputs)))
    inputs = (outputs - 1) * stride + taps
    return _combined(parts, (inputs, taps, outputs), outputs * stride, padding)


@cache
def gradient_filtering(outputs: int, taps: int, stride: int = 1, padding: int = 0) -> Filtering:
    """The gradient of its data: data[stride · o + t - padding] += result[o] filter[t].

    A tile has `stride · outputs` of them.
    """
    parts = []
    for first in range(stride):
        own = range((first + padding) % stride, taps, stride)[::-1]
        begin = (first + padding) // stride - len(own) + 1
        data = range(begin, begin + outputs + len(own) - 1)
        parts.append(_Part(own, data, [first + stride * i for i in range(outputs)]))
    begin, end = min(p.data[0] for p in parts), max(p.data[-1] for p in parts) + 1
    moved = [_Part(p.taps, [i - begin for i in p.data], p.results) for p in parts]
    return _combined(moved, (end - begin, taps, outputs * stride), outputs, -begin)


def outputs_of(most: int, taps: int, stride: int) -> int:
    """How many outputs, up to `most`, the points of F(most, 3) give a filter; 1 gains nothing.

    Of each part of a strided filter 2: measured, 4 gain 15 % or lose 8 %, and triple the code.
    """
    if taps < stride:
        return 0
    most = most if stride == 1 else min(most, 2)
    return min(most, most + 3 - -(-taps // stride))


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _combined(parts: Sequence[_Part], sizes: tuple[int, int, int], step: int,
              padding: int) -> Filtering:  # fmt: skip
    """The parts one after the other; sizes of data, taps and results."""
    data: list[Row] = []
    filter_: list[Row] = []
    columns: list[Row] = []
    for p in parts:
        matrices = _minimal(len(p.data) - len(p.taps) + 1, len(p.taps))
        data += [_placed(row, p.data, sizes[0]) for row in matrices[0]]
        filter_ += [_placed(row, p.taps, sizes[1]) for row in matrices[1]]
        columns += [_placed(column, p.results, sizes[2]) for column in transposed(matrices[2])]
    return Filtering(tuple(data), tuple(filter_), transposed(tuple(columns)), step, padding)


def _minimal(outputs: int, taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """B^T, G and A^T of F(outputs, taps)."""
    if outputs == 1 or taps == 1:
        return _identity(max(outputs, taps)), _ones(outputs, taps), transposed(_ones(taps, outputs))
    points = POINTS[outputs + taps - 2]
    others = [[q for q in points if q != p] for p in points]
    width = outputs + taps - 1
    data = [*(_from_roots(o) for o in others), _from_roots(points)]
    filter_ = []
    for point, rest in zip(points, others, strict=True):
        weight = math.prod((point - q for q in rest), start=Fraction(1))
        filter_.append([c / weight for c in _powers(point, taps)])
    result = [*(_powers(p, outputs) for p in points), _infinity(outputs)]
    return (
        _matrix([*row, *[Fraction(0)] * (width - len(row))] for row in data),
        _matrix([*filter_, _infinity(taps)]),
        transposed(_matrix(result)),
    )


def _identity(size: int) -> Matrix:
    return _matrix([Fraction(int(i == j)) for j in range(size)] for i in range(size))


def _ones(outputs: int, taps: int) -> Matrix:
    """Of F(m, 1) or F(1, r): the filter for each of m products, or for each tap its own."""
    return _matrix([[Fraction(1)]] * outputs) if taps == 1 else _identity(taps)


def _placed(row: Row, places: Sequence[int], size: int) -> Row:
    """A row with its values at the given places, zeros elsewhere."""
    values = dict(zip(places, row, strict=True))
    return tuple(values.get(i, Fraction(0)) for i in range(size))


def _matrix(rows: Iterable[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


def _powers(point: Fraction, count: int) -> list[Fraction]:
    return [point**i for i in range(count)]


def _infinity(count: int) -> list[Fraction]:
    """The leading coefficient: the value of a polynomial at infinity."""
    return [Fraction(int(i == count - 1)) for i in range(count)]


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients

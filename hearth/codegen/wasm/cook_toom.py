"""Minimal filtering F(m, r): m outputs of a filter of r taps with m + r - 1 products.

    y = A^T [(G g) * (B^T d)]        y_i = sum over k of d_(i+k) g_k

A polynomial product by evaluation at points and interpolation (Cook, Toom), transposed; one point
is infinity.  Matrices are exact: rounding them to float32 is up to whoever emits code.

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

# Pairs of opposite points share most of their arithmetic.  For F(4, 3), 5/8 and 3/2 give less than
# half the error of 1 and 2 (Lavin & Gray) in all three passes, at the same cost.
POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
}


@dataclass(frozen=True)
class Filtering:
    """F(outputs, taps) as its three matrices."""

    outputs: int  # m
    taps: int  # r
    data: Matrix  # B^T, n by n with n = m + r - 1
    filter: Matrix  # G, n by r
    result: Matrix  # A^T, m by n

    @property
    def size(self) -> int:
        """Of a tile: n."""
        return self.outputs + self.taps - 1


@cache
def filtering(outputs: int, taps: int = 3) -> Filtering:
    """F(outputs, taps) from its points."""
    points = POINTS[outputs]
    assert len(points) == outputs + taps - 2
    others = [[q for q in points if q != p] for p in points]
    data = [*(_from_roots(o) for o in others), _from_roots(points)]
    filter_ = []
    for point, rest in zip(points, others, strict=True):
        weight = math.prod((point - q for q in rest), start=Fraction(1))
        filter_.append([c / weight for c in _powers(point, taps)])
    result = [*(_powers(p, outputs) for p in points), _infinity(outputs)]
    width = outputs + taps - 1
    return Filtering(
        outputs, taps,
        _matrix([*row, *[Fraction(0)] * (width - len(row))] for row in data),
        _matrix([*filter_, _infinity(taps)]),
        transposed(_matrix(result)),
    )  # fmt: skip


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


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

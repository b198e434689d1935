"""Extents, strides and sizes as polynomials in the one symbolic dimension, the batch size B.

An extent is `a*B + b`, or a product of such where axes were flattened; strides and element counts
are products of extents.  Everything holds for every B >= 1.  A program has few different extents
and does arithmetic on them millions of times, so sums, products and comparisons are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import zip_longest

Coefficients = tuple[int, ...]  # of B**0, B**1, ...
REMEMBERED = 1 << 16  # results of each operation


@dataclass(frozen=True, slots=True)
class Dim:
    """A polynomial in B; `coefficients[k]` belongs to B**k, the last one is not zero.

    >>> str(2 * B + 3), (2 * B + 3).at(5), (4 * B) // 2 == 2 * B
    ('2*B + 3', 13, True)
    """

    coefficients: Coefficients = ()

    @staticmethod
    def of(value: Dim | int) -> Dim:
        return value if isinstance(value, Dim) else _trim((int(value),))

    @property
    def is_static(self) -> bool:
        return len(self.coefficients) <= 1

    @property
    def static(self) -> int:
        """The value of an extent that does not depend on B."""
        if not self.is_static:
            raise ValueError(f"{self} depends on the batch size")
        return self.coefficients[0] if self.coefficients else 0

    def at(self, batch: int) -> int:
        """The value for one batch size."""
        return sum(c * batch**k for k, c in enumerate(self.coefficients))

    def __add__(self, other: Dim | int) -> Dim:
        return _sum(self.coefficients, Dim.of(other).coefficients)

    def __mul__(self, other: Dim | int) -> Dim:
        return _product(self.coefficients, Dim.of(other).coefficients)

    def __neg__(self) -> Dim:
        return _product((-1,), self.coefficients)

    def __sub__(self, other: Dim | int) -> Dim:
        return self + (-Dim.of(other))

    def __rsub__(self, other: Dim | int) -> Dim:
        return Dim.of(other) - self

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Dim | int) -> Dim:
        """Exact division; raises `ValueError` where a remainder is left."""
        quotient = self.divided_by(other)
        if quotient is None:
            raise ValueError(f"{self} is not divisible by {other}")
        return quotient

    def divided_by(self, other: Dim | int) -> Dim | None:
        """The exact quotient, or None where there is none."""
        return _quotient(self.coefficients, Dim.of(other).coefficients)

    def is_at_least(self, other: Dim | int) -> bool:
        """Whether `self >= other` is provable for every B >= 1.

        Sufficient: all coefficients of the difference, written in (B - 1), are non-negative.
        """
        return _is_nonnegative((self - other).coefficients)

    def to_json(self) -> int | list[int]:
        return self.static if self.is_static else list(self.coefficients)

    @staticmethod
    def from_json(value: int | Sequence[int]) -> Dim:
        return Dim.of(value) if isinstance(value, int) else _trim(tuple(value))

    def __str__(self) -> str:
        powers = [(c, k) for k, c in enumerate(self.coefficients) if c]
        return " + ".join(_term(c, k) for c, k in reversed(powers)) or "0"

    __repr__ = __str__


Shape = tuple[Dim, ...]


def shape_of(extents: Iterable[Dim | int]) -> Shape:
    return tuple(Dim.of(e) for e in extents)


def product(extents: Iterable[Dim | int]) -> Dim:
    return reduce(lambda x, y: x * y, extents, Dim.of(1))


def strides_of(shape: Shape) -> Shape:
    """Row-major strides, in elements."""
    return tuple(product(shape[i + 1 :]) for i in range(len(shape)))


@lru_cache(REMEMBERED)
def _trim(coefficients: Coefficients) -> Dim:
    n = len(coefficients)
    while n and coefficients[n - 1] == 0:
        n -= 1
    return Dim(coefficients[:n])


@lru_cache(REMEMBERED)
def _sum(a: Coefficients, b: Coefficients) -> Dim:
    return _trim(tuple(x + y for x, y in zip_longest(a, b, fillvalue=0)))


@lru_cache(REMEMBERED)
def _product(a: Coefficients, b: Coefficients) -> Dim:
    out = [0] * (len(a) + len(b))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] += x * y
    return _trim(tuple(out))


@lru_cache(REMEMBERED)
def _quotient(dividend: Coefficients, divisor: Coefficients) -> Dim | None:
    """Polynomial long division."""
    rest, out = list(dividend), [0] * len(dividend)
    while len(rest) >= len(divisor) and rest:
        factor, left = divmod(rest[-1], divisor[-1])
        if left:
            return None
        shift = len(rest) - len(divisor)
        out[shift] = factor
        for i, d in enumerate(divisor):
            rest[shift + i] -= factor * d
        while rest and rest[-1] == 0:
            rest.pop()
    return None if rest else _trim(tuple(out))


@lru_cache(REMEMBERED)
def _is_nonnegative(coefficients: Coefficients) -> bool:
    """Sufficient: all coefficients of p(t + 1), by Horner's rule, are."""
    out: list[int] = []
    for c in reversed(coefficients):
        out = [x + y for x, y in zip([*out, 0], [0, *out], strict=True)]
        out[0] += c
    return all(c >= 0 for c in out)


def _term(coefficient: int, power: int) -> str:
    variable = {0: "", 1: "B"}.get(power, f"B**{power}")
    if not variable:
        return str(coefficient)
    return variable if coefficient == 1 else f"{coefficient}*{variable}"


B = Dim((0, 1))

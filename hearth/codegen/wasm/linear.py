"""A constant matrix times a vector of registers, as straight-line code with shared parts.

Cook-Toom matrices come in pairs of opposite points: two columns that agree up to sign, or two rows
that agree in some columns and are opposite in the others.  The sums and differences that such a
pair shares are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hearth.codegen.wasm.assembler import Function, Local, Operand, f32x4, op
from hearth.codegen.wasm.cook_toom import Matrix
from hearth.codegen.wasm.maths import Maths

Terms = Mapping[int, Fraction]  # coefficients by the number of a value; none is 0


@dataclass
class LinearMap:
    """One product in the making; its locals belong to the function's current scope."""

    f: Function
    maths: Maths
    values: list[Operand]

    def rows(self, matrix: Matrix) -> list[Operand]:
        """Matrix · values, each an expression to be used once."""
        rows: list[Terms] = [{j: c for j, c in enumerate(row) if c} for row in matrix]
        rows = self._pair_columns(rows)
        results: dict[int, Operand] = {}
        for i, j in _row_pairs(rows):
            results[i], results[j] = self._pair(rows[i], rows[j])
        return [results[i] if i in results else self._sum(row) for i, row in enumerate(rows)]

    def _pair_columns(self, rows: list[Terms]) -> list[Terms]:
        """Replaces pairs of values that every row adds or subtracts by their sum and difference."""
        for i, j in _column_pairs(rows, len(self.values)):
            pair = {i: Fraction(1), j: Fraction(1)}
            total = self._new(self._sum(pair))
            difference = self._new(self._sum({**pair, j: Fraction(-1)}))
            rows = [_substituted(row, i, j, total, difference) for row in rows]
        return rows

    def _pair(self, a: Terms, b: Terms) -> tuple[Operand, Operand]:
        """Two rows whose terms agree or are opposite."""
        same = self.values[self._new(self._sum({j: c for j, c in a.items() if b[j] == c}))]
        opposite = {j: c for j, c in a.items() if b[j] != c}
        scale = min(opposite.values(), key=lambda c: (abs(c) != 1, abs(c)))
        other = self.values[self._new(self._sum({j: c / scale for j, c in opposite.items()}))]
        return self._plus(same, scale, other), self._plus(same, -scale, other)

    def _sum(self, terms: Terms) -> Operand:
        if not terms:
            return f32x4(0)
        magnitudes = {abs(c) for c in terms.values()}
        if len(magnitudes) == 1 and magnitudes != {1} and len(terms) > 1:
            scale = next(iter(terms.values()))
            inner = self._sum({j: c / scale for j, c in terms.items()})
            return op("f32x4.mul", f32x4(float(scale)), inner)
        # A coefficient of 1 costs nothing in front; of others the first is a product of its own.
        order = sorted(terms, key=lambda j: (terms[j] != 1, abs(terms[j]) == 1))
        first, *rest = order
        total = self._scaled(terms[first], self.values[first])
        for j in rest:
            total = self._plus(total, terms[j], self.values[j])
        return total

    def _scaled(self, scale: Fraction, value: Operand) -> Operand:
        if scale == 1:
            return value
        if scale == -1:
            return op("f32x4.neg", value)
        return op("f32x4.mul", f32x4(float(scale)), value)

    def _plus(self, total: Operand, scale: Fraction, value: Operand) -> Operand:
        """The value total + scale · value."""
        if abs(scale) == 1:
            return op("f32x4.add" if scale == 1 else "f32x4.sub", total, value)
        if scale > 0:
            return self.maths.multiply_add(f32x4(float(scale)), value, total)
        return self.maths.negated_multiply_add(f32x4(float(-scale)), value, total)

    def _new(self, value: Operand) -> int:
        is_local = isinstance(value, Local)
        self.values.append(value if is_local else self.f.local(value))
        return len(self.values) - 1


def linear(f: Function, maths: Maths, matrix: Matrix, values: Sequence[Operand]) -> list[Operand]:
    """Matrix · values in four lanes; `values` are locals, each result is to be used once."""
    return LinearMap(f, maths, list(values)).rows(matrix)


def _column_pairs(rows: Sequence[Terms], count: int) -> Iterator[tuple[int, int]]:
    free = list(range(count))
    for i in range(count):
        for j in range(i + 1, count):
            both = [row for row in rows if i in row or j in row]
            is_pair = all(abs(row.get(i, 0)) == abs(row.get(j, 0)) for row in both)
            if i in free and j in free and is_pair and len(both) > 2:
                free = [k for k in free if k not in (i, j)]
                yield i, j


def _substituted(row: Terms, i: int, j: int, total: int, difference: int) -> Terms:
    if i not in row:
        return row
    rest = {k: c for k, c in row.items() if k not in (i, j)}
    return {**rest, total if row[i] == row[j] else difference: row[i]}


def _row_pairs(rows: Sequence[Terms]) -> Iterator[tuple[int, int]]:
    free = list(range(len(rows)))
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            if i in free and j in free and _is_row_pair(rows[i], rows[j]):
                free = [k for k in free if k not in (i, j)]
                yield i, j


def _is_row_pair(a: Terms, b: Terms) -> bool:
    """Whether the two agree in some terms and are opposite in all others, and share any work."""
    if set(a) != set(b) or any(abs(a[k]) != abs(b[k]) for k in a):
        return False
    return len(a) > 2 and 0 < sum(a[k] == b[k] for k in a) < len(a)

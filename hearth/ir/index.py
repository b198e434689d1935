"""Integer index arithmetic of kernels: linear forms over loop variables.

An `Index` is `constant + Σ coefficient · atom` in canonical form; coefficients may depend on B.
An atom is a loop variable, a floor division or remainder of an index by an extent (what reshapes
leave behind), or a value that a kernel computes (gather).  `floor_div` and `mod` simplify with the
known ranges of the loop variables, so most reshapes disappear.

Values of divisions of negative numbers are unspecified: they occur only under a failing guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hearth.ir.dim import Dim, Shape, strides_of
from hearth.ir.scalar import Expr

ZERO = Dim()


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop variable: 0 <= value < extent."""

    position: int
    extent: Dim


@dataclass(frozen=True, slots=True)
class FloorDiv:
    numerator: Index
    divisor: Dim


@dataclass(frozen=True, slots=True)
class Mod:
    numerator: Index
    divisor: Dim


@dataclass(frozen=True, slots=True)
class Value:
    """An int32 scalar expression, 0 <= value < extent."""

    expr: Expr
    extent: Dim


Atom = Axis | FloorDiv | Mod | Value


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    terms: tuple[tuple[Atom, Dim], ...] = ()
    constant: Dim = ZERO

    def __eq__(self, other: object) -> bool:
        """Equality of linear forms: the order of terms does not matter."""
        if not isinstance(other, Index):
            return NotImplemented
        return self.constant == other.constant and frozenset(self.terms) == frozenset(other.terms)

    def __hash__(self) -> int:
        return hash((frozenset(self.terms), self.constant))

    @staticmethod
    def of(value: Index | Dim | int) -> Index:
        return value if isinstance(value, Index) else Index((), Dim.of(value))

    def __add__(self, other: Index | Dim | int) -> Index:
        other = Index.of(other)
        merged: dict[Atom, Dim] = dict(self.terms)
        for atom, coefficient in other.terms:
            merged[atom] = merged.get(atom, Dim()) + coefficient
        terms = tuple((a, c) for a, c in merged.items() if c != Dim())
        return Index(terms, self.constant + other.constant)

    def __mul__(self, factor: Dim | int) -> Index:
        if Dim.of(factor) == Dim():
            return Index()
        return Index(tuple((a, c * factor) for a, c in self.terms), self.constant * factor)

    def __sub__(self, other: Index | Dim | int) -> Index:
        return self + Index.of(other) * -1

    __radd__ = __add__
    __rmul__ = __mul__

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def coefficient(self, position: int) -> Dim | None:
        """The stride along a loop variable, or None where the index is not linear in it."""
        stride = Dim()
        for atom, coefficient in self.terms:
            if isinstance(atom, Axis):
                if atom.position == position:
                    stride = coefficient
            elif depends_on(atom, position):
                return None
        return stride

    def __str__(self) -> str:
        parts = [_show(a, c) for a, c in self.terms]
        if self.constant != Dim() or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts)


def axis(position: int, extent: Dim | int) -> Index:
    extent = Dim.of(extent)
    if extent == Dim.of(1):
        return Index()
    return Index(((Axis(position, extent), Dim.of(1)),))


def atom_index(atom: Atom) -> Index:
    return Index(((atom, Dim.of(1)),))


def floor_div(index: Index, divisor: Dim | int) -> Index:
    """`index // divisor`, simplified with the ranges of the loop variables."""
    divisor = Dim.of(divisor)
    if divisor == Dim.of(1):
        return index
    whole, rest = _split_nonnegative(index, divisor)
    if is_in_range(rest, divisor):
        return whole
    for unit, high in _coarser(rest, divisor):
        return whole + floor_div(high, divisor // unit)
    return whole + atom_index(FloorDiv(rest, divisor))


def mod(index: Index, divisor: Dim | int) -> Index:
    """`index % divisor`, simplified with the ranges of the loop variables."""
    divisor = Dim.of(divisor)
    if divisor == Dim.of(1):
        return Index()
    _, rest = _split_nonnegative(index, divisor)
    if is_in_range(rest, divisor):
        return rest
    for unit, high in _coarser(rest, divisor):
        return mod(high, divisor // unit) * unit + (rest - high * unit)
    return atom_index(Mod(rest, divisor))


def bounds(index: Index) -> tuple[Dim, Dim] | None:
    """Provable inclusive bounds for every B >= 1, or None where they are unknown."""
    low = high = index.constant
    for atom, coefficient in index.terms:
        limit = _largest(atom)
        if limit is None:
            return None
        if coefficient.is_at_least(0):
            high = high + coefficient * limit
        elif (-coefficient).is_at_least(0):
            low = low + coefficient * limit
        else:
            return None
    return low, high


def is_in_range(index: Index, extent: Dim | int) -> bool:
    """Whether 0 <= index < extent is provable for every B >= 1."""
    limits = bounds(index)
    if limits is None:
        return False
    low, high = limits
    return low.is_at_least(0) and (Dim.of(extent) - 1).is_at_least(high)


def linearize(coords: Sequence[Index], shape: Shape) -> Index:
    """The row-major element number of a coordinate."""
    total = Index()
    for coord, stride in zip(coords, strides_of(shape), strict=True):
        total = total + coord * stride
    return _joined(total)


def _joined(index: Index) -> Index:
    """`(x // d) * (c*d) + (x % d) * c` is x*c: what undoes `delinearize`."""
    factors = dict(index.terms)
    for atom, factor in index.terms:
        if isinstance(atom, Mod):
            whole = FloorDiv(atom.numerator, atom.divisor)
            if factors.get(whole) == factor * atom.divisor:
                rest = Index(tuple(t for t in index.terms if t[0] not in (atom, whole)))
                return _joined(rest + index.constant + atom.numerator * factor)
    return index


def delinearize(linear: Index, shape: Shape) -> tuple[Index, ...]:
    """The coordinate of a row-major element number; where there are no elements, anything."""
    if Dim() in shape:
        return (Index(),) * len(shape)
    coords = []
    for position, (extent, stride) in enumerate(zip(shape, strides_of(shape), strict=True)):
        quotient = floor_div(linear, stride)
        coords.append(quotient if position == 0 else mod(quotient, extent))
    return tuple(coords)


def substitute(index: Index, replace: Callable[[Atom], Index | None]) -> Index:
    """Rebuild an index with atoms replaced; None keeps an atom (after replacing inside it)."""
    total = Index((), index.constant)
    for atom, coefficient in index.terms:
        total = total + _substitute_atom(atom, replace) * coefficient
    return total


def rename_axes(index: Index, axes: Mapping[int, Index]) -> Index:
    """Replace loop variables by other indices."""
    return substitute(index, lambda a: axes.get(a.position) if isinstance(a, Axis) else None)


def depends_on(atom: Atom, position: int) -> bool:
    """Whether an atom varies with a loop variable; values count as varying with all of them."""
    match atom:
        case Axis():
            return atom.position == position
        case FloorDiv() | Mod():
            return any(depends_on(inner, position) for inner, _ in atom.numerator.terms)
        case Value():
            return True


def _substitute_atom(atom: Atom, replace: Callable[[Atom], Index | None]) -> Index:
    replaced = replace(atom)
    if replaced is not None:
        return replaced
    match atom:
        case FloorDiv():
            return floor_div(substitute(atom.numerator, replace), atom.divisor)
        case Mod():
            return mod(substitute(atom.numerator, replace), atom.divisor)
        case Axis() | Value():
            return atom_index(atom)


def _split_nonnegative(index: Index, divisor: Dim) -> tuple[Index, Index]:
    """Split so that the rest is never negative where the index is not: devices divide unsigned."""
    whole, rest = _split(index, divisor)
    if _is_nonnegative(rest):
        return whole, rest
    if rest.constant.is_static and divisor.is_static:
        quotient, constant = divmod(rest.constant.static, divisor.static)
        whole, rest = whole + quotient, Index(rest.terms, Dim.of(constant))
    return (whole, rest) if _is_nonnegative(rest) else (Index(), index)


def _is_nonnegative(index: Index) -> bool:
    limits = bounds(index)
    return limits is not None and limits[0].is_at_least(0)


def _split(index: Index, divisor: Dim) -> tuple[Index, Index]:
    """Find index == whole·divisor + rest, with as much as possible in `whole`."""
    whole, rest = Index(), Index()
    for atom, coefficient in index.terms:
        quotient = coefficient.divided_by(divisor)
        if quotient is not None:
            whole = whole + Index(((atom, quotient),))
        else:
            rest = rest + Index(((atom, coefficient),))
    quotient = index.constant.divided_by(divisor)
    if quotient is not None:
        return whole + quotient, rest
    return whole, rest + index.constant


def _coarser(index: Index, divisor: Dim) -> Iterator[tuple[Dim, Index]]:
    """Units u that divide the divisor, where index == u·high + low and 0 <= low < u.

    Then index // divisor == high // (divisor / u): (28·i + j) // 56 is i // 2.
    """
    for _, unit in index.terms:
        if unit == divisor or divisor.divided_by(unit) is None or unit == Dim.of(1):
            continue
        high, low = _split(index, unit)
        if high.terms and is_in_range(low, unit):
            yield unit, high


def _largest(atom: Atom) -> Dim | None:
    match atom:
        case Axis() | Value():
            return atom.extent - 1
        case Mod():
            return atom.divisor - 1
        case FloorDiv():
            limits = bounds(atom.numerator)
            if limits is None or not limits[0].is_at_least(0):
                return None
            high = limits[1]
            if high.is_static and atom.divisor.is_static:
                return Dim.of(high.static // atom.divisor.static)
            # floor(high / d) <= (high + 1) / d - 1 where the division is exact.
            exact = (high + 1).divided_by(atom.divisor)
            return exact - 1 if exact is not None else high


def _show(atom: Atom, coefficient: Dim) -> str:
    match atom:
        case Axis():
            text = f"i{atom.position}"
        case FloorDiv():
            text = f"({atom.numerator}) // ({atom.divisor})"
        case Mod():
            text = f"({atom.numerator}) % ({atom.divisor})"
        case Value():
            text = "value"
    return text if coefficient == Dim.of(1) else f"{text}*({coefficient})"

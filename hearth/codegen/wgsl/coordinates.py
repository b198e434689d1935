"""Loop variables as digits of flat positions: what a thread or a loop of the kernel counts.

A map over [B, 64, 196] has one index; the loop variables are its quotients and remainders.  Memory
mostly wants several neighbouring digits together, which cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hearth.codegen.wgsl.term import Term
from hearth.ir.dim import Dim, Shape, product
from hearth.ir.index import Axis, Index

Name = Callable[[Term, str], Term]  # gives a term a name where it belongs
Size = Callable[[Dim], Term]


@dataclass(frozen=True, slots=True)
class Flat:
    """A row-major position over some loop variables."""

    positions: tuple[int, ...]
    shape: Shape
    value: Term


class Coordinates:
    """The loop variables at one point of a kernel, written when they are asked for."""

    def __init__(self, flats: Iterable[Flat], name: Name, size: Size) -> None:
        self.flats, self.name, self.size = list(flats), name, size
        self._places = {p: (f, i) for f in self.flats for i, p in enumerate(f.positions)}

    def at(self, position: int) -> Term:
        flat, i = self._places[position]
        return self._run(flat, i, i + 1)

    def take_runs(self, index: Index) -> tuple[Index, list[tuple[Term, Dim]]]:
        """The index without runs of neighbouring digits, and those runs with their strides."""
        strides = {a.position: c for a, c in index.terms if isinstance(a, Axis)}
        runs: list[tuple[Term, Dim]] = []
        taken: set[int] = set()
        for flat in self.flats:
            start = 0
            while start < len(flat.positions):
                stop = _end_of_run(flat, start, strides)
                if stop - start > 1:
                    runs.append((self._run(flat, start, stop), strides[flat.positions[stop - 1]]))
                    taken.update(flat.positions[start:stop])
                start = stop
        rest = [t for t in index.terms if not (isinstance(t[0], Axis) and t[0].position in taken)]
        return Index(tuple(rest), index.constant), runs

    def _run(self, flat: Flat, start: int, stop: int) -> Term:
        term, stride = flat.value, product(flat.shape[stop:])
        if stride != Dim.of(1):
            term = self.name(Term(f"{term.operand} / {self.size(stride).text}", term.depth), "q")
        if start:
            extent = self.size(product(flat.shape[start:stop])).text
            term = self.name(Term(f"{term.operand} % {extent}", term.depth), "q")
        return term


def _end_of_run(flat: Flat, start: int, strides: Mapping[int, Dim]) -> int:
    """Past the digits from `start` on that lie in memory as they do in the flat position."""
    stop = start + 1
    while stop < len(flat.positions):
        outer, inner = (strides.get(p) for p in flat.positions[stop - 1 : stop + 1])
        if outer is None or inner is None or outer != inner * flat.shape[stop]:
            break
        stop += 1
    return stop

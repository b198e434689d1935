"""Slots: memory that several values share because they are never alive at the same time.

A slot's size is the largest of its tenants' for the actual batch size, so any assignment is correct
for every B; which one is good is judged at a typical B.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from hearth.ir.dim import Dim

TYPICAL_BATCH = 32


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A value of `size_bytes` that exists from step `first` to step `last`, both included."""

    value: Hashable
    size_bytes: Dim
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Allocation:
    slot_of: dict[Hashable, int]
    slots: tuple[tuple[Dim, ...], ...]  # the sizes in bytes that each slot must hold

    def bytes_at(self, batch: int) -> int:
        return sum(max(size.at(batch) for size in slot) for slot in self.slots)


def allocate(lifetimes: Sequence[Lifetime]) -> Allocation:
    """Best fit in order of birth: the free slot whose size is nearest, growing it if need be."""
    slot_of: dict[Hashable, int] = {}
    tenants: list[list[Dim]] = []
    free_from: list[int] = []  # first step at which a slot is free again
    for life in sorted(lifetimes, key=lambda v: (v.first, -v.size_bytes.at(TYPICAL_BATCH))):
        wanted = life.size_bytes.at(TYPICAL_BATCH)
        free = [s for s, step in enumerate(free_from) if step <= life.first]
        best = min(free, key=lambda s: _misfit(tenants[s], wanted), default=None)
        if best is None:
            best = len(tenants)
            tenants.append([])
            free_from.append(0)
        slot_of[life.value] = best
        free_from[best] = life.last + 1
        if life.size_bytes not in tenants[best]:
            tenants[best].append(life.size_bytes)
    return Allocation(slot_of, tuple(tuple(sizes) for sizes in tenants))


def _misfit(sizes: list[Dim], wanted: int) -> tuple[int, int]:
    """How much a slot would have to grow, then how much of it would stay unused."""
    size = max(s.at(TYPICAL_BATCH) for s in sizes)
    return max(wanted - size, 0), max(size - wanted, 0)

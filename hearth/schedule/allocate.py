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
    """The smaller of two: in order of birth, or the largest first."""
    births = sorted(lifetimes, key=lambda v: (v.first, -v.size_bytes.at(TYPICAL_BATCH)))
    sizes = sorted(lifetimes, key=lambda v: (-v.size_bytes.at(TYPICAL_BATCH), v.first))
    return min(map(_best_fit, (births, sizes)), key=lambda a: a.bytes_at(TYPICAL_BATCH))


def _best_fit(lifetimes: Sequence[Lifetime]) -> Allocation:
    """Each value into the free slot whose size is nearest, growing it if need be."""
    slot_of: dict[Hashable, int] = {}
    tenants: list[list[Lifetime]] = []
    for life in lifetimes:
        wanted = life.size_bytes.at(TYPICAL_BATCH)
        free = [s for s, others in enumerate(tenants) if not any(_meet(life, o) for o in others)]
        best = min(free, key=lambda s: _misfit(tenants[s], wanted), default=None)
        if best is None:
            best = len(tenants)
            tenants.append([])
        slot_of[life.value] = best
        tenants[best].append(life)
    slots = tuple(tuple(dict.fromkeys(t.size_bytes for t in own)) for own in tenants)
    return Allocation(slot_of, slots)


def _meet(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def _misfit(tenants: Sequence[Lifetime], wanted: int) -> tuple[int, int]:
    """How much a slot would have to grow, then how much of it would stay unused."""
    size = max(t.size_bytes.at(TYPICAL_BATCH) for t in tenants)
    return max(wanted - size, 0), max(size - wanted, 0)

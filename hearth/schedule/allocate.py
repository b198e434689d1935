"""Slots: where values lie, so that those that are never alive together share memory.

A slot holds values of one size, one after another.  It begins where the highest of the slots ends
that it lies `above`: some of its values are alive together with values in those.  That keeps them
apart for every batch size; how well they fill the memory is judged at a typical one.  (Pisarchyk
and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference": greedy by size, each
into the smallest gap.)
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from hearth.ir.dim import Dim
from hearth.ir.dtype import align

TYPICAL_BATCH = 32


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A value of `size_bytes` that exists from step `first` to step `last`, both included.

    `compact_bytes` is its size on a device that stores halves as such; values are placed by it.
    """

    value: Hashable
    size_bytes: Dim
    first: int
    last: int
    half_bytes: Dim | None = None

    @property
    def compact_bytes(self) -> Dim:
        return self.size_bytes if self.half_bytes is None else self.half_bytes


@dataclass(frozen=True, slots=True)
class Allocation:
    slot_of: dict[Hashable, int]
    sizes: tuple[Dim, ...]  # of the slots, in bytes
    half_sizes: tuple[Dim, ...]  # likewise, where halves are stored as such
    above: tuple[tuple[int, ...], ...]  # the slots, with smaller numbers, that each lies above

    def bytes_at(self, batch: int) -> int:
        """What all slots take together."""
        return max((end for _, end in self._places(batch)), default=0)

    def starts_at(self, batch: int) -> list[int]:
        """Where each slot begins."""
        return [start for start, _ in self._places(batch)]

    def _places(self, batch: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for size, below in zip(self.sizes, self.above, strict=True):
            start = max((places[k][1] for k in below), default=0)
            places.append((start, start + align(size.at(batch) or 1)))
        return places


@dataclass(frozen=True, slots=True)
class _Placed:
    life: Lifetime
    start: int
    end: int


def allocate(lifetimes: Sequence[Lifetime]) -> Allocation:
    """The smallest of three: the largest first, the longest and largest, in order of birth."""

    def size(life: Lifetime) -> int:
        return life.compact_bytes.at(TYPICAL_BATCH)

    orders = (
        sorted(lifetimes, key=lambda v: (-size(v), v.first)),
        sorted(lifetimes, key=lambda v: (-size(v) * (v.last - v.first + 1), v.first)),
        sorted(lifetimes, key=lambda v: (v.first, -size(v))),
    )
    packed = min(map(_pack, orders), key=lambda own: max((p.end for p in own), default=0))
    return _as_slots(packed)


def _pack(lifetimes: Sequence[Lifetime]) -> list[_Placed]:
    """Each value into the smallest gap between those that are alive with it, or on top of them."""
    placed: list[_Placed] = []
    for life in lifetimes:
        wanted = align(life.compact_bytes.at(TYPICAL_BATCH) or 1)
        end, best = 0, None
        for other in placed:  # by start
            if not _meet(life, other.life):
                continue
            gap = other.start - end
            if gap >= wanted and (best is None or gap < best[0]):
                best = (gap, end)
            end = max(end, other.end)
        start = best[1] if best else end
        insort(placed, _Placed(life, start, start + wanted), key=lambda p: p.start)
    return placed


def _as_slots(placed: Sequence[_Placed]) -> Allocation:
    """Values at one place of one size are the tenants of a slot; slots come in their order."""
    slots: dict[tuple[int, Dim, Dim], list[_Placed]] = {}
    for own in placed:
        key = (own.start, own.life.size_bytes, own.life.compact_bytes)
        slots.setdefault(key, []).append(own)
    tenants = list(slots.values())
    reached: list[set[int]] = []  # what lies below a slot through others, too
    above: list[tuple[int, ...]] = []
    for number, these in enumerate(tenants):
        below: list[int] = []
        for k in reversed(range(number)):
            is_below = tenants[k][0].end <= these[0].start
            known = any(k in reached[j] for j in below)
            if is_below and not known and _any_meet(these, tenants[k]):
                below.append(k)
        above.append(tuple(reversed(below)))
        reached.append(set(below).union(*(reached[k] for k in below)))
    slot_of = {p.life.value: k for k, own in enumerate(tenants) for p in own}
    sizes, compact = tuple(size for _, size, _ in slots), tuple(size for *_, size in slots)
    return Allocation(slot_of, sizes, compact, tuple(above))


def _any_meet(own: Sequence[_Placed], others: Sequence[_Placed]) -> bool:
    return any(_meet(p.life, q.life) for p in own for q in others)


def _meet(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last

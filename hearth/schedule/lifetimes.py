"""When every value of a schedule is alive, and how many bytes that makes at each kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hearth.ir.dim import product
from hearth.ir.dtype import ELEMENT_BYTES, align
from hearth.ir.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Work:
    """One kernel: the roots it computes, and the stored values of other kernels that it reads."""

    writes: tuple[Node, ...]
    reads: tuple[Node, ...]


@dataclass(frozen=True)
class Timeline:
    """A schedule, as far as memory is concerned."""

    graph: Graph
    works: Sequence[Work]
    roots: set[Node]
    loads: Mapping[Node, tuple[Node, ...]]  # the stored values that computing a root reads
    stored: set[Node]  # the roots that others than their own kernel read
    inputs: Sequence[Node]  # in slots
    in_state: set[Node]  # roots whose memory is state
    outputs: set[Node]
    losses: set[Node]


@dataclass(slots=True)
class Life:
    """A value in a slot exists from one kernel to another, both included."""

    node: Node
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Bytes that are alive at each kernel."""

    alive: tuple[int, ...]

    @property
    def peak(self) -> int:
        return max(self.alive)

    def above(self, bytes_: int) -> int:
        """How much of it is above a level, added up over the kernels."""
        return sum(alive - bytes_ for alive in self.alive if alive > bytes_)


def lives_of(timeline: Timeline, works: Sequence[Work]) -> list[Life]:
    """The values in slots in the order of their births; one that is computed twice lives twice."""
    lives = [Life(node, 0, 0) for node in timeline.inputs]
    current = {life.node: life for life in lives}
    given = len(lives)
    for k, work in enumerate(works):
        for node in work.reads:
            if node in current:
                current[node].last = k
        for node in work.writes:
            if node not in timeline.in_state:
                current[node] = Life(node, k, k)
                lives.append(current[node])
    for node in timeline.outputs:
        if node in current:
            current[node].last = len(works)
    return [life for k, life in enumerate(lives) if k < given or life.last > life.first]


def profile_of(timeline: Timeline, works: Sequence[Work], batch: int) -> Profile:
    change = [0] * (len(works) + 2)
    for life in lives_of(timeline, works):
        size = bytes_at(life.node, batch)
        change[life.first] += size
        change[life.last + 1] -= size
    alive, total = [], 0
    for delta in change[:-1]:
        total += delta
        alive.append(total)
    return Profile(tuple(alive))


def bytes_at(node: Node, batch: int) -> int:
    """What a value takes on a device."""
    return align(product(node.shape).at(batch) * ELEMENT_BYTES or 1)


def in_order(nodes: Iterable[Node], position: Mapping[Node, int]) -> tuple[Node, ...]:
    """A set as a list that is the same in every run."""
    return tuple(sorted(nodes, key=position.__getitem__))

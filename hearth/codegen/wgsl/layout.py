"""How many threads work on a point of a generic kernel, and which loop neighbours walk."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wgsl.module import MAX_THREADS
from hearth.ir.dim import Dim, product
from hearth.ir.kernel import Kernel
from hearth.ir.walking import stage_indices

TYPICAL_BATCH = 32  # layouts are chosen for it, and right for every batch
THREADS = 64
ENOUGH_THREADS = 16384  # keeps a large GPU busy
ENOUGH_IN_SOFTWARE = 64  # keeps some cores busy, each with a vector of threads
SERIAL_ELEMENTS = 32  # a loop this short is not worth sharing


@dataclass(frozen=True, slots=True)
class Layout:
    """A workgroup covers `points` points with `lanes` threads each (powers of two).

    `by_point`: neighbouring threads have neighbouring points, else neighbouring inner elements.
    """

    points: int
    lanes: int
    by_point: bool

    @property
    def threads(self) -> int:
        return self.points * self.lanes


def choose_layout(kernel: Kernel, enough_threads: int = ENOUGH_THREADS) -> Layout:
    points = kernel.points.at(TYPICAL_BATCH)
    inner = max(product(stage.axes).at(TYPICAL_BATCH) for stage in kernel.stages)
    may_grow = points < THREADS and not all(e.is_static for s in kernel.stages for e in s.axes)
    if inner == 1 or (inner <= SERIAL_ELEMENTS and not may_grow):
        return Layout(THREADS, 1, by_point=True)
    by_point = _is_contiguous_along_points(kernel)
    lanes = min(_power_above(enough_threads // points), _power_below(inner // 4), MAX_THREADS)
    if by_point:
        across = min(_power_above(points), 32)
        lanes = min(lanes, MAX_THREADS // across)
        return Layout(THREADS if lanes == 1 else across, lanes, by_point=True)
    if enough_threads >= THREADS * THREADS:
        lanes = max(lanes, 32)  # a row is read by neighbours, however many rows there are
    elif lanes == 1:
        return Layout(THREADS, 1, by_point=True)
    return Layout(max(1, THREADS // lanes), lanes, by_point=False)


def _is_contiguous_along_points(kernel: Kernel) -> bool:
    """Whether more accesses are contiguous along the last outer loop than the last inner one."""
    votes = 0
    outer = _last(kernel.axes, 0)
    for stage in kernel.stages:
        first = len(kernel.axes)
        inner = _last(stage.axes, first)
        if inner is None:
            continue
        for index in stage_indices(stage):
            if all(index.coefficient(first + i) == Dim() for i in range(len(stage.axes))):
                continue  # read once per point: its stride does not matter
            votes += outer is not None and index.coefficient(outer) == Dim.of(1)
            votes -= index.coefficient(inner) == Dim.of(1)
    return votes > 0


def _last(axes: tuple[Dim, ...], start: int) -> int | None:
    """The number of the last loop that runs more than once."""
    found = [start + i for i, extent in enumerate(axes) if extent != Dim.of(1)]
    return found[-1] if found else None


def _power_above(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def _power_below(number: int) -> int:
    return 1 << max(number.bit_length() - 1, 0)

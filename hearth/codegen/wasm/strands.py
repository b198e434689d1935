"""Four runs of memory as the four lanes of vectors, and back: small transpositions in registers.

Run k is lane k; element i of all four runs is vector i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Local, Operand, op, shuffle
from hearth.ir.dtype import ELEMENT_BYTES

LANES = 4


@dataclass(frozen=True)
class Run:
    """Where a run of floats begins: an address plus a constant, in bytes."""

    pointer: Operand
    offset: int

    def moved(self, elements: int) -> Run:
        return Run(self.pointer, self.offset + elements * ELEMENT_BYTES)


def four_runs(pointer: Operand, step_bytes: int) -> list[Run]:
    """Runs that begin `step_bytes` apart."""
    return [Run(pointer, lane * step_bytes) for lane in range(LANES)]


def gather(f: Function, runs: Sequence[Run], count: int) -> list[Local]:
    """The first `count` elements of four runs, a vector each."""
    vectors: list[Local] = []
    while count - len(vectors) >= LANES:
        own = [run.moved(len(vectors)) for run in runs]
        rows = [f.local(op("v128.load", r.pointer, immediate=r.offset)) for r in own]
        vectors += transpose(f, rows)
    own = [run.moved(len(vectors)) for run in runs]
    rest = count - len(vectors)
    if rest >= 2:
        vectors += _gather_two(f, own)
    if rest % 2:
        vectors.append(_gather_one(f, [run.moved(rest - 1) for run in own]))
    return vectors


def scatter(f: Function, runs: Sequence[Run], vectors: Sequence[Local]) -> None:
    """Writes each lane's elements to its run: the reverse of `gather`."""
    done = 0
    while len(vectors) - done >= LANES:
        for run, row in zip(runs, transpose(f, vectors[done : done + LANES]), strict=True):
            f.store("v128.store", run.pointer, row, run.moved(done).offset)
        done += LANES
    if len(vectors) - done >= 2:
        _scatter_two(f, [run.moved(done) for run in runs], *vectors[done : done + 2])
        done += 2
    for vector in vectors[done:]:
        for lane, run in enumerate(runs):
            f.store("v128.store32_lane", run.pointer, vector, (run.moved(done).offset, lane))


def transpose(f: Function, rows: Sequence[Operand]) -> list[Local]:
    """Four vectors of four lanes, transposed."""
    a, b, c, d = rows
    low = [f.local(shuffle(x, y, 0, 4, 1, 5)) for x, y in ((a, b), (c, d))]
    high = [f.local(shuffle(x, y, 2, 6, 3, 7)) for x, y in ((a, b), (c, d))]
    return [
        f.local(shuffle(x, y, *lanes))
        for x, y in (low, high)
        for lanes in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]


def _gather_two(f: Function, runs: Sequence[Run]) -> list[Local]:
    pairs = []
    for one, other in (runs[:2], runs[2:]):
        pair = op("v128.load64_zero", one.pointer, immediate=one.offset)
        where = (other.offset, 1)
        pairs.append(f.local(op("v128.load64_lane", other.pointer, pair, immediate=where)))
    first, second = pairs
    return [f.local(shuffle(first, second, *lanes)) for lanes in ((0, 2, 4, 6), (1, 3, 5, 7))]


def _gather_one(f: Function, runs: Sequence[Run]) -> Local:
    first, *others = runs
    vector = op("v128.load32_zero", first.pointer, immediate=first.offset)
    for lane, run in enumerate(others, 1):
        vector = op("v128.load32_lane", run.pointer, vector, immediate=(run.offset, lane))
    return f.local(vector)


def _scatter_two(f: Function, runs: Sequence[Run], a: Operand, b: Operand) -> None:
    for half, lanes in enumerate(((0, 4, 1, 5), (2, 6, 3, 7))):
        pairs = f.local(shuffle(a, b, *lanes))
        for i in range(2):
            run = runs[2 * half + i]
            f.store("v128.store64_lane", run.pointer, pairs, (run.offset, i))

"""How many bytes a program moves and holds, next to how few it could: from the manifest alone.

A kernel moves every buffer that it binds once.  What must be moved in any case is every input,
every output and all state that the program touches, once.  What must be held at once is the
largest sum of the values that are between their first and their last use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hearth.bundle.manifest import Manifest, Program
from hearth.bundle.memory import buffer_bytes, place_slots


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one run of a program."""

    moved: int
    needed: int  # the least that could be moved
    held: int  # by the slots, alignment included
    alive: int  # the least that they could hold, or more where values of one shape share a slot


def traffic_of(manifest: Manifest, program: Program, batch: int) -> Traffic:
    """The figures for one batch size."""

    def size(buffer: int) -> int:
        return buffer_bytes(manifest, buffer, batch)

    bound = [set(step.buffers) for step in program.steps]
    data = {i.buffer for i in program.inputs} | {o.buffer for o in program.outputs}
    state = {b for own in (*bound, data) for b in own if manifest.buffers[b].offset is not None}
    ranges = ((manifest.buffers[b].offset or 0, size(b)) for b in state)
    held = max((end for _, end in place_slots(program, batch)), default=0)
    return Traffic(
        moved=sum(size(b) for own in bound for b in own),
        needed=_covered(ranges) + sum(size(b) for b in data - state),
        held=held,
        alive=min(held, _most_alive(manifest, program, batch)),
    )


def _covered(ranges: Iterator[tuple[int, int]]) -> int:
    """Bytes in the union of ranges (start, size): a parameter is also part of its flat vector."""
    total = end = 0
    for start, size in sorted(ranges):
        total += max(start + size - max(start, end), 0)
        end = max(end, start + size)
    return total


def _most_alive(manifest: Manifest, program: Program, batch: int) -> int:
    alive = [0] * (len(program.steps) + 1)
    for buffer, first, last in _lives(manifest, program):
        for step in range(first, last + 1):
            alive[step] += buffer_bytes(manifest, buffer, batch)
    return max(alive)


def _lives(manifest: Manifest, program: Program) -> Iterator[tuple[int, int, int]]:
    """(buffer, first step, last step) of each value in a slot.

    A slot's tenants take turns.  One that follows another of its own shape is taken for the same.
    """
    tenants: dict[int, tuple[int, int, int]] = {}  # slot -> buffer, first and last use
    end = len(program.steps)
    uses = [(0, [entry.buffer for entry in program.inputs])]
    uses += [(number, list(step.buffers)) for number, step in enumerate(program.steps)]
    uses.append((end, [entry.buffer for entry in program.outputs]))
    for number, buffers in uses:
        for buffer in buffers:
            slot = manifest.buffers[buffer].slot
            if slot is None:
                continue
            known = tenants.get(slot)
            if known is not None and known[0] != buffer:
                yield known
                known = None
            tenants[slot] = (buffer, known[1] if known else number, number)
    yield from tenants.values()

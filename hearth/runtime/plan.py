"""Where every buffer of a bundle lies in the arena, for one batch size.

`bundle/memory.py` says where each program's slots begin; a device wants one table with an offset
per buffer.  The arena begins with the state region, which no plan moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hearth.bundle.manifest import Manifest, Program
from hearth.bundle.memory import buffer_bytes, plan_memory
from hearth.errors import BundleFormatError
from hearth.ir.dtype import align


@dataclass(frozen=True, slots=True)
class Plan:
    """Offsets and sizes in bytes; a plan for `batch` serves every smaller batch too."""

    batch: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    state_bytes: int
    arena_bytes: int


def make_plan(manifest: Manifest, batch: int, halves: bool = False) -> Plan:
    """Raises `BundleFormatError` where two programs put one buffer at different places."""
    memory = plan_memory(manifest, batch, halves)
    offsets: dict[int, int] = {}
    for name, program in manifest.programs.items():
        for buffer in buffers_of(program):
            offset = memory.offset_of(manifest, name, buffer)
            if offsets.setdefault(buffer, offset) != offset:
                raise BundleFormatError(f"buffer {buffer} lies in slots of more than one program")
    count = len(manifest.buffers)
    return Plan(
        batch,
        tuple(offsets.get(i, 0) for i in range(count)),
        tuple(buffer_bytes(manifest, i, batch, halves) for i in range(count)),
        align(manifest.state_bytes),
        memory.arena_bytes,
    )


def buffers_of(program: Program) -> Iterator[int]:
    """Every buffer that a program touches; some more than once."""
    for step in program.steps:
        yield from step.buffers
    yield from (entry.buffer for entry in program.inputs)
    yield from (entry.buffer for entry in program.outputs)

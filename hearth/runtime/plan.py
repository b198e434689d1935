"""Where every buffer of a bundle lies in the arena, for one batch size.

`bundle/memory.py` says where each program's slots begin; a device wants one table with an offset
per buffer.  The arena begins with the state region, which no plan moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hearth.bundle.manifest import Manifest, Program
from hearth.bundle.memory import UNLIMITED, Page, buffer_bytes, plan_memory
from hearth.errors import BundleFormatError
from hearth.ir.dtype import align


@dataclass(frozen=True, slots=True)
class Plan:
    """Offsets and sizes in bytes; a plan for `batch` serves every smaller batch too.

    A device that gives so much in one piece has one page.
    """

    batch: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    state_bytes: int
    pages: tuple[Page, ...]

    @property
    def arena_bytes(self) -> int:
        """What all pages take."""
        return sum(page.size_bytes for page in self.pages)


def make_plan(
    manifest: Manifest, batch: int, halves: bool = False, page_bytes: int = UNLIMITED
) -> Plan:
    """The plan in pages of at most `page_bytes`, with halves of two bytes or of four.

    Raises `BundleFormatError` where two programs put one buffer at different places.
    """
    memory = plan_memory(manifest, batch, halves, page_bytes)
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
        memory.pages,
    )


def buffers_of(program: Program) -> Iterator[int]:
    """Every buffer that a program touches; some more than once."""
    for step in program.steps:
        yield from step.buffers
    yield from (entry.buffer for entry in program.inputs)
    yield from (entry.buffer for entry in program.outputs)

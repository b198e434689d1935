"""Where every buffer of a bundle lies for one batch size.

The compiler decided which buffers share a slot; this evaluates the sizes for an actual batch
(spec/manifest.md, "Buffers and memory").  It does not allocate anything.

    arena:  [ state region ][ slots of the program with the largest sum ]
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.bundle.manifest import Manifest, Program
from hearth.ir.dim import product
from hearth.ir.dtype import ELEMENT_BYTES

ALIGNMENT_BYTES = 256


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Byte offsets from the start of the arena, for batches up to `batch`."""

    batch: int
    slots: dict[str, tuple[int, ...]]
    program_bytes: dict[str, int]
    arena_bytes: int

    def offset_of(self, manifest: Manifest, program: str, buffer: int) -> int:
        """Where a buffer that `program` touches begins."""
        entry = manifest.buffers[buffer]
        if entry.offset is not None:
            return entry.offset
        assert entry.slot is not None
        return self.slots[program][entry.slot]


def plan_memory(manifest: Manifest, batch: int) -> MemoryPlan:
    """The plan for `batch` samples; it serves every smaller batch too."""
    start = align(manifest.state_bytes)
    slots: dict[str, tuple[int, ...]] = {}
    program_bytes: dict[str, int] = {}
    for name, program in manifest.programs.items():
        offsets = [start]
        for size in slot_bytes(program, batch):
            offsets.append(offsets[-1] + size)
        slots[name] = tuple(offsets[:-1])
        program_bytes[name] = offsets[-1] - start
    return MemoryPlan(batch, slots, program_bytes, start + max(program_bytes.values(), default=0))


def slot_bytes(program: Program, batch: int) -> tuple[int, ...]:
    """Bytes of each slot of a program; an empty value has some too, as nothing binds no bytes."""
    return tuple(
        align(max((size.at(batch) for size in sizes), default=0) or 1) for sizes in program.slots
    )


def buffer_bytes(manifest: Manifest, buffer: int, batch: int) -> int:
    """Bytes that one buffer occupies on a device."""
    return product(manifest.buffers[buffer].shape).at(batch) * ELEMENT_BYTES


def align(size: int) -> int:
    """The next multiple of 256: what WebGPU asks of the offset of a storage binding."""
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

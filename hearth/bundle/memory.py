"""Where every buffer of a bundle lies for one batch size.

The compiler decided which buffers share a slot; this evaluates the sizes for an actual batch
(spec/manifest.md, "Buffers and memory").  It does not allocate anything.

    arena:  [ state region ][ slots of the program that needs most ]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hearth.bundle.manifest import Manifest, Program
from hearth.ir.dim import product
from hearth.ir.dtype import ALIGNMENT_BYTES, ELEMENT_BYTES, HALF_BYTES, align

WASM_TABLE = 2048  # address of the table of buffers: spec/manifest.md, "WebAssembly"
WASM_PAGE_BYTES = 65536
UNIFORM_BYTES = 16  # the batch size, on WebGPU
STAGING_BYTES = 3 * 1024  # a ring of small buffers that losses come back through


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


def plan_memory(manifest: Manifest, batch: int, halves: bool = False) -> MemoryPlan:
    """The plan for `batch` samples; it serves every smaller batch too.

    `halves` is for a device that stores float16 numbers in two bytes.
    """
    start = align(manifest.state_bytes)
    slots: dict[str, tuple[int, ...]] = {}
    program_bytes: dict[str, int] = {}
    for name, program in manifest.programs.items():
        starts, program_bytes[name] = place_slots(program, batch, halves)
        slots[name] = tuple(start + offset for offset in starts)
    return MemoryPlan(batch, slots, program_bytes, start + max(program_bytes.values(), default=0))


def place_slots(program: Program, batch: int, halves: bool = False) -> tuple[tuple[int, ...], int]:
    """Where each slot begins, from the end of the state region, and the bytes of all together."""
    above = program.above or tuple((k - 1,) if k else () for k in range(len(program.slots)))
    starts: list[int] = []
    ends: list[int] = []
    for size, below in zip(slot_bytes(program, batch, halves), above, strict=True):
        starts.append(max((ends[k] for k in below), default=0))
        ends.append(starts[-1] + size)
    return tuple(starts), max(ends, default=0)


def needed_bytes(manifest: Manifest, batch: int, threads: int = 1) -> dict[str, int]:
    """By backend: exactly what a runtime allocates to train on batches of up to `batch` samples.

    WebAssembly: the length of its memory.  WebGPU: the sizes of all buffers, with general kernels.
    """
    arena = plan_memory(manifest, batch).arena_bytes
    needed = {}
    if manifest.wasm is not None:
        pages = -(-(wasm_arena_address(manifest, threads) + arena) // WASM_PAGE_BYTES)
        needed["wasm"] = pages * WASM_PAGE_BYTES
    if manifest.wgsl is not None:
        needed["webgpu"] = max(arena, ALIGNMENT_BYTES) + UNIFORM_BYTES + STAGING_BYTES
    return needed


def wasm_scratch_address(manifest: Manifest) -> int:
    """Where scratch memory begins: after the table of buffers."""
    return align(WASM_TABLE + 4 * len(manifest.buffers))


def wasm_arena_address(manifest: Manifest, threads: int) -> int:
    """Where the arena begins: after the scratch memory of all threads."""
    scratch = manifest.wasm.scratch_bytes if manifest.wasm else 0
    return align(wasm_scratch_address(manifest) + threads * scratch)


def largest_batch(fits: Callable[[int], bool]) -> int:
    """The largest batch size up to 2^31 that fits, or 0; what fits fits for smaller ones too."""
    low, high = 0, 1
    while high <= 1 << 30 and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def slot_bytes(program: Program, batch: int, halves: bool = False) -> tuple[int, ...]:
    """Bytes of each slot of a program; an empty value has some too, as nothing binds no bytes."""
    slots = program.half_slots if halves and program.half_slots is not None else program.slots
    return tuple(align(max((size.at(batch) for size in sizes), default=0) or 1) for sizes in slots)


def buffer_bytes(manifest: Manifest, buffer: int, batch: int, halves: bool = False) -> int:
    """Bytes that one buffer occupies on a device."""
    entry = manifest.buffers[buffer]
    element = HALF_BYTES if halves and entry.half else ELEMENT_BYTES
    return product(entry.shape).at(batch) * element

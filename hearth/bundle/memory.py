"""Where every buffer of a bundle lies for one batch size.

The compiler decided which buffers share a slot; this evaluates the sizes for an actual batch
(spec/manifest.md, "Buffers and memory").  It does not allocate anything.

    arena:  [ state region ][ slots of the program that needs most ]

A device whose buffers are smaller than that has it in pages: whole numbers of bindings each, so
that no buffer of the bundle lies in two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from hearth.bundle.manifest import Manifest, Program
from hearth.ir.dim import product
from hearth.ir.dtype import ALIGNMENT_BYTES, ELEMENT_BYTES, HALF_BYTES, align

WASM_TABLE = 2048  # address of the table of buffers: spec/manifest.md, "WebAssembly"
WASM_PAGE_BYTES = 65536
UNIFORM_BYTES = 16  # the batch size, on WebGPU
STAGING_BYTES = 3 * 1024  # a ring of small buffers that losses come back through


UNLIMITED = 1 << 62  # bytes of a page, where all of the arena is one


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the arena that a device allocates by itself."""

    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Byte offsets from the start of the arena, for batches up to `batch`.

    Between two pages there may be offsets at which nothing lies, and which take no memory.
    """

    batch: int
    slots: dict[str, tuple[int, ...]]
    program_bytes: dict[str, int]
    pages: tuple[Page, ...]

    @property
    def arena_bytes(self) -> int:
        """What all pages take."""
        return sum(page.size_bytes for page in self.pages)

    def offset_of(self, manifest: Manifest, program: str, buffer: int) -> int:
        """Where a buffer that `program` touches begins."""
        entry = manifest.buffers[buffer]
        if entry.offset is not None:
            return entry.offset
        assert entry.slot is not None
        return self.slots[program][entry.slot]


@dataclass(frozen=True, slots=True)
class Paging:
    """Where pages may begin behind the state region: at every `page_bytes` from `base` on."""

    base: int = 0
    page_bytes: int = UNLIMITED

    def place(self, offset: int, size: int) -> int:
        """The offset, or the next page where something of that size would lie in two."""
        room = self.page_bytes - (offset - self.base) % self.page_bytes
        return offset if size <= room else offset + room

    def start_of(self, offset: int) -> int:
        """Of the page in which an offset lies."""
        return offset - (offset - self.base) % self.page_bytes


def plan_memory(
    manifest: Manifest, batch: int, halves: bool = False, page_bytes: int = UNLIMITED
) -> MemoryPlan:
    """The plan for `batch` samples; it serves every smaller batch too.

    `halves` is for a device that stores float16 numbers in two bytes; `page_bytes`, a multiple of
    256, is the most that it gives in one piece.
    """
    begins = _state_pages(manifest, page_bytes)
    paging = Paging(begins[-1], page_bytes)
    start = align(manifest.state_bytes)
    slots: dict[str, tuple[int, ...]] = {}
    program_bytes: dict[str, int] = {}
    ends = dict(pairwise((*begins, start)))  # of what lies in each page, by its start
    for name, program in manifest.programs.items():
        places = place_slots(program, batch, halves, start, paging)
        slots[name] = tuple(offset for offset, _ in places)
        program_bytes[name] = max((end for _, end in places), default=start) - start
        for offset, end in places:
            page = paging.start_of(offset)
            ends[page] = max(ends.get(page, 0), end)
    pages = tuple(Page(page, end - page) for page, end in sorted(ends.items()))
    return MemoryPlan(batch, slots, program_bytes, pages)


def place_slots(
    program: Program,
    batch: int,
    halves: bool = False,
    start: int = 0,
    paging: Paging = Paging(),
) -> tuple[tuple[int, int], ...]:
    """Where each slot begins and ends, if the first begin at `start`."""
    above = program.above or tuple((k - 1,) if k else () for k in range(len(program.slots)))
    places: list[tuple[int, int]] = []
    for size, below in zip(slot_bytes(program, batch, halves), above, strict=True):
        offset = paging.place(max((places[k][1] for k in below), default=start), size)
        places.append((offset, offset + size))
    return tuple(places)


def _state_pages(manifest: Manifest, page_bytes: int) -> list[int]:
    """Where pages begin in the state region: between the buffers of kernels, as late as can be."""
    begins = [0]
    end = align(manifest.state_bytes)
    for first, last in (*_state_blocks(manifest), (end, end)):
        while last - begins[-1] > page_bytes and first > begins[-1]:
            begins.append(min(first, begins[-1] + page_bytes))
    return begins


def _state_blocks(manifest: Manifest) -> Iterator[tuple[int, int]]:
    """What stays together: buffers that share memory, as a parameter and its group do."""
    first = last = 0
    for i in sorted(_state_buffers(manifest), key=lambda i: manifest.buffers[i].offset or 0):
        offset = manifest.buffers[i].offset or 0
        begin = offset - offset % ALIGNMENT_BYTES
        if begin >= last:
            yield first, last
            first = begin
        last = max(last, align(offset + buffer_bytes(manifest, i, 1)))
    yield first, last


def _state_buffers(manifest: Manifest) -> Iterator[int]:
    return (i for i, buffer in enumerate(manifest.buffers) if buffer.offset is not None)


def needed_bytes(
    manifest: Manifest, batch: int, threads: int = 1, halves: bool = False
) -> dict[str, int]:
    """By backend: exactly what a runtime allocates to train on batches of up to `batch` samples.

    WebAssembly: the length of its memory.  WebGPU: the sizes of all buffers, with general kernels;
    with `halves` on an adapter that stores float16 numbers in two bytes.
    """
    needed = {}
    if manifest.wasm is not None:
        arena = plan_memory(manifest, batch).arena_bytes
        pages = -(-(wasm_arena_address(manifest, threads) + arena) // WASM_PAGE_BYTES)
        needed["wasm"] = pages * WASM_PAGE_BYTES
    if manifest.wgsl is not None:
        arena = plan_memory(manifest, batch, halves).arena_bytes
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

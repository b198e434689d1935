"""Padded copies of an image in scratch memory, so that a convolution needs no border cases.

In a copy, every position of a block of output rows is one number, `row * width + column`, and what
a tap of the window reads lies at a fixed distance from it: a convolution becomes a matrix product
whose right operand is these planes, shifted.  A stride of s splits a plane into s·s smaller ones
(one per remainder of the coordinate), which makes it a stride of 1 again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Local, Operand, f32, f32x4, i32, op
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.opcodes import I32
from hearth.ir.dtype import ELEMENT_BYTES

Pair = tuple[int, int]  # along rows (y) and columns (x)
UNROLLED_VECTORS = 8


@dataclass(frozen=True)
class Planes:
    """Where everything lies.

    Plane coordinate v of an axis holds source element `v - padding`, or 0 where there is none.
    Position o and tap offset t read coordinate `o * down + t`.
    """

    source: Pair  # extents of the image
    positions: Pair
    taps: tuple[Pair, ...]
    padding: Pair  # may be negative: then the border is cut off
    down: Pair
    block_rows: int

    @property
    def height(self) -> int:
        return self._extent(0, self.block_rows)

    @property
    def width(self) -> int:
        return self._extent(1, self.positions[1])

    def _extent(self, axis: int, positions: int) -> int:
        last = max(tap[axis] for tap in self.taps)
        return positions + last // self.down[axis]

    @property
    def size(self) -> int:
        """Elements of one channel."""
        return self.down[0] * self.down[1] * self.height * self.width

    @property
    def block_positions(self) -> int:
        """From the first to the last position of a block, gaps included."""
        return (self.block_rows - 1) * self.width + self.positions[1]

    def offset(self, tap: Pair) -> int:
        """Where a tap of position 0 lies, in elements."""
        (row, y), (column, x) = (divmod(t, d) for t, d in zip(tap, self.down, strict=True))
        return ((y * self.down[1] + x) * self.height + row) * self.width + column


def copy_planes(maths: Maths, p: Planes) -> Function:
    """Fills the planes of a block.  Parameters: to, from, channels, the first output row."""
    f = Function("copy_planes", (I32,) * 4)
    target, source, channels, first_row = (f.param(i) for i in range(4))
    with f.counted(channels):
        for phase in range(p.down[0]):
            offset = phase * p.down[1] * p.height * p.width
            at = f.local(target + offset * ELEMENT_BYTES)
            row = f.local(first_row * p.down[0] + (phase - p.padding[0]))
            with f.counted(i32(p.height)):
                with f.if_(op("i32.lt_u", row, p.source[0])):
                    start = f.local(source + row * (p.source[1] * ELEMENT_BYTES))
                    _copy_row(f, p, at, start)
                    f.else_()
                    for column in range(p.down[1]):
                        clear(f, at + (column * p.height * p.width) * ELEMENT_BYTES, p.width)
                f.increment(at, p.width * ELEMENT_BYTES)
                f.increment(row, p.down[0])
        f.increment(target, p.size * ELEMENT_BYTES)
        f.increment(source, p.source[0] * p.source[1] * ELEMENT_BYTES)
    return maths.module.add(f)


def _copy_row(f: Function, p: Planes, at: Operand, start: Operand) -> None:
    down, padding = p.down[1], p.padding[1]
    for phase in range(down):
        base = phase * p.height * p.width
        # Column c holds source element c*down + phase - padding.
        first = max(0, _ceil_div(padding - phase, down))
        last = min(p.width, (p.source[1] - 1 + padding - phase) // down + 1)
        count = max(0, last - first)
        clear(f, at + base * ELEMENT_BYTES, first)
        _copy(f, at, base + first, start, first * down + phase - padding, down, count)
        clear(f, at + (base + first + count) * ELEMENT_BYTES, p.width - first - count)


def clear(f: Function, at: Operand, count: int) -> None:
    """Zeros in `count` elements from an address on."""
    vectors, rest = divmod(count, 4)
    to = f.local(at)
    if vectors > UNROLLED_VECTORS:
        with f.counted(i32(vectors)):
            f.store("v128.store", to, f32x4(0))
            f.increment(to, 16)
        vectors = 0
    for i in range(vectors):
        f.store("v128.store", to, f32x4(0), 16 * i)
    for i in range(rest):
        f.store("f32.store", to, f32(0), 16 * vectors + i * ELEMENT_BYTES)


def _copy(f: Function, at: Operand, offset: int, start: Operand, start_offset: int,
          step: int, count: int) -> None:  # fmt: skip
    """Copies `count` elements that lie `step` apart; offsets are in elements."""
    if count == 0:
        return
    to = f.local(at + offset * ELEMENT_BYTES)
    source = f.local(start + start_offset * ELEMENT_BYTES)
    if step == 1:
        vectors, count = divmod(count, 4)
        _copy_loop(f, to, source, vectors, "v128", 16, 16)
    _copy_loop(f, to, source, count, "f32", ELEMENT_BYTES, step * ELEMENT_BYTES)


def _copy_loop(f: Function, to: Local, source: Local, count: int, unit: str, step: int,
               source_step: int) -> None:  # fmt: skip
    """Moves both pointers behind what was copied."""
    if count == 0:
        return
    if count <= UNROLLED_VECTORS:
        for i in range(count):
            value = op(f"{unit}.load", source, immediate=i * source_step)
            f.store(f"{unit}.store", to, value, i * step)
        f.increment(to, count * step)
        f.increment(source, count * source_step)
        return
    with f.counted(i32(count)):
        f.store(f"{unit}.store", to, op(f"{unit}.load", source))
        f.increment(to, step)
        f.increment(source, source_step)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def fill_table(f: Function, p: Planes, table: Operand, channels: int, taps: Sequence[int],
               base: Operand) -> None:  # fmt: skip
    """Writes `base + offset` in bytes for each channel and tap, in this order."""
    at, start = f.local(table), f.local(base)
    with f.counted(i32(channels)):
        for i, tap in enumerate(taps):
            offset = p.offset(p.taps[tap]) * ELEMENT_BYTES
            f.store("i32.store", at, start + offset, i * ELEMENT_BYTES)
        f.increment(at, len(taps) * ELEMENT_BYTES)
        f.increment(start, p.size * ELEMENT_BYTES)

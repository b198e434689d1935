"""Parts of images and filters as rows of equal length, the operands of Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Operand, f32, i32, op, select
from hearth.codegen.wasm.butterflies import COMPLEX_BYTES, VECTOR_BYTES
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.planes import Pair, clear
from hearth.ir.dtype import ELEMENT_BYTES


@dataclass(frozen=True)
class Window:
    """A part of an image as rows of equal length, zeros where the image or the part has none."""

    extents: tuple[int, int]  # of the image
    rows: int
    width: int
    used: tuple[int, int]  # rows and columns that are not always zeros
    step: tuple[int, int]  # from row to row in the image

    @property
    def plane_bytes(self) -> int:
        return self.rows * self.width * ELEMENT_BYTES + COMPLEX_BYTES  # not all in one cache set


def copy_window(maths: Maths, w: Window) -> Function:
    """Parameters: to, from, channels, and of the image the first row and column, maybe outside."""
    f = Function("copy_window", (I32,) * 5)
    target, source, channels, first_row, first_column = (f.param(i) for i in range(5))
    with f.counted(channels):
        to, row, column = f.local(target), f.local(first_row), f.local(first_column)
        with f.counted(i32(w.used[0])):
            _copy_row(f, w, to, source, row, column)
            f.increment(to, w.width * ELEMENT_BYTES)
            f.increment(row, w.step[0])
            f.increment(column, w.step[1])
        clear(f, to, (w.rows - w.used[0]) * w.width)
        f.increment(target, w.plane_bytes)
        f.increment(source, w.extents[0] * w.extents[1] * ELEMENT_BYTES)
    return maths.module.add(f)


def _copy_row(f: Function, w: Window, to: Operand, source: Operand, row: Operand,
              column: Operand) -> None:  # fmt: skip
    before = f.larger(i32(0) - column, 0)
    end = f.smaller(i32(w.extents[1]) - column, w.used[1])
    count = f.local(end - before)
    f.set(count, select(op("i32.lt_u", row, w.extents[0]), count, i32(0)))
    with f.if_(op("i32.lt_s", count, w.width)):
        clear(f, to, w.width)
    with f.if_(op("i32.gt_s", count, 0)):
        at = f.local(source + (row * w.extents[1] + column + before) * ELEMENT_BYTES)
        own = f.local(to + before * ELEMENT_BYTES)
        for unit, size, steps in (("v128", VECTOR_BYTES, op("i32.shr_u", count, 2)),
                                  ("f32", ELEMENT_BYTES, op("i32.and", count, 3))):  # fmt: skip
            with f.counted(steps):
                f.store(f"{unit}.store", own, op(f"{unit}.load", at))
                f.increment(own, size)
                f.increment(at, size)


@dataclass(frozen=True)
class Taps:
    """Which taps of a filter become rows, in which order, and the rows of which they are a part."""

    window: Pair
    first: Pair
    counts: Pair
    is_turned: bool  # by half a turn: the last tap of the window is number 0
    rows: int
    width: int

    @property
    def plane_bytes(self) -> int:
        return self.rows * self.width * ELEMENT_BYTES + COMPLEX_BYTES


def copy_filter(maths: Maths, t: Taps, step_bytes: int, scale: float) -> Function:
    """Filters `step_bytes` apart times a scale.  Parameters: to, from, how many."""
    f = Function("copy_filter", (I32,) * 3)
    target, source, filters = (f.param(i) for i in range(3))
    width, sign = t.window[1], -1 if t.is_turned else 1
    places = [n - 1 - i if t.is_turned else i for n, i in zip(t.window, t.first, strict=True)]
    first, step = places[0] * width + places[1], sign * ELEMENT_BYTES
    with f.counted(filters):
        clear(f, target, t.rows * t.width)
        row, to = f.local(source + first * ELEMENT_BYTES), f.local(target)
        with f.counted(i32(t.counts[0])):
            at, own = f.local(row), f.local(to)
            with f.counted(i32(t.counts[1])):
                f.store("f32.store", own, op("f32.mul", op("f32.load", at), f32(scale)))
                f.increment(at, step)
                f.increment(own, ELEMENT_BYTES)
            f.increment(row, step * width)
            f.increment(to, t.width * ELEMENT_BYTES)
        f.increment(target, t.plane_bytes)
        f.increment(source, step_bytes)
    return maths.module.add(f)

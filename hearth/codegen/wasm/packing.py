"""Copies of an operand in the order in which the tiles of a matrix product walk it.

Neighbours in memory stay together on the way: rows of a panel or a tile go as vectors, and columns
are transposed in registers, four at a time.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Function, Local, Operand, f32x4, i32, op
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.strands import LANES, transpose
from hearth.ir.dtype import ELEMENT_BYTES

ROW_BYTES = PANEL * ELEMENT_BYTES


def pack_panels(maths: Maths) -> Function:
    """Copies B[k, n] into panels of eight columns, with zeros after the last column.

    Parameters: from, to, k, n, and in bytes the steps of `from` per k and per column.
    """
    f = Function("pack_panels", (I32,) * 6)
    source, target, count, columns, k_step, column_step = (f.param(i) for i in range(6))
    with f.loop():
        is_whole = f.local(op("i32.ge_s", columns, PANEL))
        with f.if_(op("i32.and", is_whole, op("i32.eq", column_step, ELEMENT_BYTES))):
            _copy_panel(f, source, target, count, k_step)
            f.else_()
            with f.if_(op("i32.and", is_whole, op("i32.eq", k_step, ELEMENT_BYTES))):
                for half in range(PANEL // LANES):
                    first = source + column_step * (LANES * half)
                    _transpose_columns(f, first, target + 16 * half, count, column_step)
                f.else_()
                _copy_columns(f, source, target, count, columns, k_step, column_step)
        f.increment(source, column_step * PANEL)
        f.increment(target, count * ROW_BYTES)
        f.increment(columns, -PANEL)
        f.repeat_if(op("i32.gt_s", columns, 0))
    return maths.module.add(f)


def _copy_panel(f: Function, source: Operand, target: Operand, count: Operand,
                k_step: Operand) -> None:  # fmt: skip
    row, to = f.local(source), f.local(target)
    with f.counted(count):
        for j in range(2):
            f.store("v128.store", to, op("v128.load", row, immediate=16 * j), 16 * j)
        f.increment(row, k_step)
        f.increment(to, ROW_BYTES)


def _transpose_columns(f: Function, source: Operand, target: Operand, count: Operand,
                       column_step: Operand) -> None:  # fmt: skip
    """Four columns that are contiguous along k."""
    to = f.local(target)
    columns: list[Local] = []
    for _ in range(LANES):
        columns.append(f.local(columns[-1] + column_step if columns else source))
    with f.counted(op("i32.shr_u", count, 2)):
        vectors = transpose(f, [f.local(op("v128.load", c)) for c in columns])
        for i, vector in enumerate(vectors):
            f.store("v128.store", to, vector, i * ROW_BYTES)
        f.increment(to, LANES * ROW_BYTES)
        for c in columns:
            f.increment(c, 16)
    with f.counted(op("i32.and", count, LANES - 1)):
        for lane, c in enumerate(columns):
            f.store("f32.store", to, op("f32.load", c), lane * ELEMENT_BYTES)
            f.increment(c, ELEMENT_BYTES)
        f.increment(to, ROW_BYTES)


def _copy_columns(f: Function, source: Operand, target: Operand, count: Operand,
                  columns: Operand, k_step: Operand, column_step: Operand) -> None:  # fmt: skip
    """Fewer columns than a panel has, or none that are neighbours along an axis."""
    row, to_row, width = f.local(source), f.local(target), f.local(columns)
    with f.if_(op("i32.gt_s", width, PANEL)):
        f.set(width, i32(PANEL))
    with f.counted(count):
        for j in range(2):
            f.store("v128.store", to_row, f32x4(0), 16 * j)
        at, to = f.local(row), f.local(to_row)
        with f.counted(width):
            f.store("f32.store", to, op("f32.load", at))
            f.increment(at, column_step)
            f.increment(to, ELEMENT_BYTES)
        f.increment(row, k_step)
        f.increment(to_row, ROW_BYTES)


def pack_tiles(maths: Maths) -> Function:
    """Copies A[m, k] into tiles [k][rows]: the rows of a tile become neighbours.

    Parameters: from, to, k, rows of this tile (at most eight), and in bytes the steps of `from` per
    k and per row.
    """
    f = Function("pack_tile", (I32,) * 6)
    source, target, count, rows, k_step, row_step = (f.param(i) for i in range(6))
    are_neighbours = op("i32.eq", row_step, ELEMENT_BYTES)
    with f.if_(op("i32.and", are_neighbours, op("i32.ge_s", rows, LANES))):
        # Two vectors that overlap are four to eight rows.
        step = f.local(rows * ELEMENT_BYTES)
        at, to = f.local(source + step - 16), f.local(target + step - 16)
        with f.counted(count):
            f.store("v128.store", target, op("v128.load", source))
            f.store("v128.store", to, op("v128.load", at))
            for pointer, amount in ((source, k_step), (at, k_step), (target, step), (to, step)):
                f.increment(pointer, amount)
        f.else_()
        with f.counted(count):
            single = f.local(source)
            with f.counted(rows):
                f.store("f32.store", target, op("f32.load", single))
                f.increment(single, row_step)
                f.increment(target, ELEMENT_BYTES)
            f.increment(source, k_step)
    return maths.module.add(f)

"""A block of a matrix product: all tiles of C[m, n] += A[m, k] B[k, n] over one block of k.

Rows are divided evenly (14 rows are 5, 5 and 4, not 6, 6 and 2): a thin last tile costs as much
time as a full one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, op
from hearth.codegen.wasm.maths import Maths, with_twin
from hearth.codegen.wasm.microkernels import (
    DOT_COLUMNS,
    DOT_ROWS,
    PANEL,
    dot_kernel,
    splat_kernel,
    tile_rows,
)
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.packing import pack_tiles

ADDRESS_BYTES = 4


@dataclass(frozen=True)
class Rows:
    """How a function walks the row tiles of A."""

    function: Function
    tallest: int
    count: Operand

    def each(self, body: Callable[[Operand], None]) -> None:
        """The body for the rows of each tile, one after the other."""
        for height, tiles in self.heights():
            with self.function.counted(tiles):
                body(height)

    def heights(self) -> list[tuple[Local, Local]]:
        """The heights of tiles from top to bottom, with how many tiles there are of each."""
        f = self.function
        tiles = f.local(op("i32.div_u", self.count + (self.tallest - 1), i32(self.tallest)))
        low = f.local(op("i32.div_u", self.count, tiles))
        high_tiles = f.local(self.count - low * tiles)
        return [(f.local(low + 1), high_tiles), (low, f.local(tiles - high_tiles))]

    def dispatch(self, rows: Operand, call: Callable[[int], None]) -> None:
        """Emits `call(r)` under `rows == r`, the common heights first."""
        self._dispatch(rows, self.tallest, call)

    def _dispatch(self, rows: Operand, height: int, call: Callable[[int], None]) -> None:
        if height == 1:
            call(1)
            return
        with self.function.if_(op("i32.eq", rows, height)):
            call(height)
            self.function.else_()
            self._dispatch(rows, height - 1, call)


@with_twin
def splat_block(maths: Maths, row_stride: int | None, *, indirect: bool = False) -> Function:
    """All tiles of C[m, n] += A[m, k] B[k, n], n in panels of eight columns.

    Parameters: a, b, c, m, panels, k, then in bytes the steps of a per row and per k, of b per
    panel and per k (or its table, see `splat_kernel`), of c per row, and whether to add to C.
    `row_stride` is the step of a per row where it is known now; None: A is packed in tiles.
    """
    f = Function("splat_block" + ("_indirect" if indirect else ""), (I32,) * 12)
    a0, b, c0, m, panels, k, row_step, k_step, panel_step, b_step, c_step, adds = (
        f.param(i) for i in range(12)
    )
    a, c = f.local(I32), f.local(I32)
    rows = Rows(f, tile_rows(maths), m)
    heights = rows.heights()

    def tiles(height: Operand, count: Operand) -> None:
        def call(r: int) -> None:
            kernel = splat_kernel(maths, r, row_stride, indirect=indirect)
            step = i32(ADDRESS_BYTES * r) if row_stride is None else k_step
            f.perform(f.call(kernel, a, b, c, k, step, b_step, c_step, adds, count))

        with f.if_(count):
            rows.dispatch(height, call)
            below = f.local(height * count)
            f.increment(a, below * (row_step if row_stride is not None else k * ADDRESS_BYTES))
            f.increment(c, below * c_step)

    with f.counted(panels):
        f.set(a, a0)
        f.set(c, c0)
        for height, count in heights:
            tiles(height, count)
        f.increment(b, panel_step)
        f.increment(c0, 4 * PANEL)
    return maths.module.add(f)


@with_twin
def dot_block(maths: Maths, a_stride: int, b_stride: int | None, *, has_rest: bool) -> Function:
    """All tiles of C[m, n] += A[m, k] B[n, k]^T; the strides are bytes from row to row.

    Parameters: a, b, c, m, n, k, the step of c per row in bytes, and whether to add to C.  Without
    `b_stride`, b is a table with the address of each row of B.
    """
    f = Function("dot_block", (I32,) * 8)
    a0, b, c0, m, n, k, c_step, adds = (f.param(i) for i in range(8))
    vectors, rest = f.local(op("i32.shr_u", k, 2)), f.local(op("i32.and", k, 3))

    def column(width: int) -> None:
        a, c = f.local(a0), f.local(c0)
        whole = (DOT_ROWS, op("i32.div_u", m, DOT_ROWS))
        for height, count in (whole, (1, op("i32.rem_u", m, DOT_ROWS))):
            kernel = dot_kernel(maths, height, width, a_stride, b_stride, has_rest=has_rest)
            with f.counted(count):
                f.perform(f.call(kernel, a, b, c, vectors, rest, c_step, adds))
                f.increment(a, height * a_stride)
                f.increment(c, c_step * height)
        f.increment(b, width * (ADDRESS_BYTES if b_stride is None else b_stride))
        f.increment(c0, width * ADDRESS_BYTES)

    with f.counted(op("i32.div_u", n, DOT_COLUMNS)):
        column(DOT_COLUMNS)
    with f.counted(op("i32.rem_u", n, DOT_COLUMNS)):
        column(1)
    return maths.module.add(f)


@with_twin
def pack_rows(maths: Maths) -> Function:
    """Packs the row tiles of A as `splat_block` walks them.

    Parameters: from, to, m, k, and in bytes the steps of `from` per row and per k.
    """
    f = Function("pack_rows", (I32,) * 6)
    source, target, m, k, row_step, k_step = (f.param(i) for i in range(6))

    def tile(height: Operand) -> None:
        f.perform(f.call(pack_tiles(maths), source, target, k, height, k_step, row_step))
        f.increment(source, height * row_step)
        f.increment(target, height * k * ADDRESS_BYTES)

    Rows(f, tile_rows(maths), m).each(tile)
    return maths.module.add(f)

"""The inner loops of matrix products: a small tile of the result stays in registers.

V8 has fifteen usable vector registers on x64, and a loop that needs more spills and runs at half
the speed.  So the tile sizes are a table of measurements, not a formula, and the loops over k must
not be unrolled (measured on a Zen 4: 6x8 with fused multiply-add and 5x8 without it are the best,
98 % and 87 % of the 128-bit peak; 2x4 for rows times rows).
"""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.wasm.assembler import Function, Local, Operand, f32x4, i32, op, shuffle
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.opcodes import I32, V128
from hearth.ir.dtype import ELEMENT_BYTES

PANEL = 8  # columns of a tile: two vectors
DOT_ROWS, DOT_COLUMNS = 2, 4


def tile_rows(maths: Maths) -> int:
    return 6 if maths.relaxed else 5


def splat_kernel(maths: Maths, rows: int, row_stride: int | None, *,
                 indirect: bool = False) -> Function:  # fmt: skip
    """Tiles of C[rows, 8] = A[rows, k] B[k, 8], one below the other with the same B.

    One element of A times two vectors of B at a time.  Parameters: a, b, c, k, then in bytes the
    steps of a and b per k and of c per row, whether to add to C, and the number of tiles.  Row i of
    A lies `row_stride` bytes after row i-1; None: A is packed in tiles.  `indirect`: instead of a
    step of b comes the address of a table with the offset of b for each k.
    """
    name = f"splat_{rows}x{PANEL}" + ("_indirect" if indirect else "")
    f = Function(name, (I32,) * 9)
    a, b, c, k, a_step, b_step, c_step, adds, tiles = (f.param(i) for i in range(9))
    tile = [[f.local(V128) for _ in range(2)] for _ in range(rows)]
    columns = [f.local(V128) for _ in range(2)]
    element, left = f.local(V128), f.local(I32)
    at_a = a if row_stride is None else f.local(I32)
    at_b, table = f.local(I32), f.local(I32) if indirect else b_step
    with f.loop():
        f.set(at_a, a)
        f.set(left, k)
        f.set(table if indirect else at_b, b_step if indirect else b)
        for total in (total for row in tile for total in row):
            f.set(total, f32x4(0))
        with f.loop():
            if indirect:
                f.set(at_b, b + op("i32.load", table))
            for j, column in enumerate(columns):
                f.set(column, op("v128.load", at_b, immediate=16 * j))
            for i, row in enumerate(tile):
                place = i * (ELEMENT_BYTES if row_stride is None else row_stride)
                f.set(element, op("v128.load32_splat", at_a, immediate=place))
                for total, column in zip(row, columns, strict=True):
                    f.set(total, maths.multiply_add(element, column, total))
            f.increment(at_a, a_step)
            f.increment(table if indirect else at_b, i32(ELEMENT_BYTES) if indirect else b_step)
            f.increment(left, -1)
            f.repeat_if(left)
        _write_tile(f, tile, c, c_step, adds)  # which leaves c at the next tile
        if row_stride is not None:
            f.increment(a, rows * row_stride)
        f.increment(tiles, -1)
        f.repeat_if(tiles)
    return maths.module.add(f)


def _write_tile(f: Function, tile: Sequence[Sequence[Local]], c: Local, c_step: Operand,
                adds: Operand) -> None:  # fmt: skip
    with f.if_(adds):
        at = f.local(c)
        for row in tile:
            for j, total in enumerate(row):
                f.set(total, op("f32x4.add", total, op("v128.load", at, immediate=16 * j)))
            f.increment(at, c_step)
    for row in tile:
        for j, total in enumerate(row):
            f.store("v128.store", c, total, 16 * j)
        f.increment(c, c_step)


def dot_kernel(maths: Maths, rows: int, columns: int, a_stride: int, b_stride: int | None, *,
               has_rest: bool) -> Function:  # fmt: skip
    """C[rows, columns] = A[rows, k] B[columns, k]^T, both contiguous along k.

    Parameters: a, b, c, the numbers of whole vectors of k and of elements after them, the step of c
    per row in bytes, and whether to add to C.  `columns` is 4 or 1.  Without `b_stride`, `b` is the
    address of a table with the address of each row of B.
    """
    f = Function(f"dot_{rows}x{columns}", (I32,) * 7)
    a, b, c, vectors, rest, c_step, adds = (f.param(i) for i in range(7))
    sources, offsets = [b] * columns, [j * (b_stride or 0) for j in range(columns)]
    if b_stride is None:
        sources = [f.local(op("i32.load", b, immediate=4 * j)) for j in range(columns)]
    totals = [[f.local(f32x4(0)) for _ in range(columns)] for _ in range(rows)]
    lefts, right = [f.local(V128) for _ in range(rows)], f.local(V128)
    moving = [a, *(sources if b_stride is None else [b])]

    def step(load: str, width: int) -> None:
        for i, left in enumerate(lefts):
            f.set(left, op(load, a, immediate=i * a_stride))
        for j in range(columns):
            f.set(right, op(load, sources[j], immediate=offsets[j]))
            for left, row in zip(lefts, totals, strict=True):
                f.set(row[j], maths.multiply_add(left, right, row[j]))
        for pointer in moving:
            f.increment(pointer, width)

    with f.counted(vectors):
        step("v128.load", 16)
    if has_rest:
        # One element in lane 0, zeros in the others.
        with f.counted(rest):
            step("v128.load32_zero", 4)
    for row in totals:
        write_dots(f, row, c, adds)
        f.increment(c, c_step)
    return maths.module.add(f)


def write_dots(f: Function, row: Sequence[Local], c: Operand, adds: Operand) -> None:
    if len(row) == DOT_COLUMNS:
        total = f.local(sum_of_four(f, row))
        with f.if_(adds):
            f.set(total, op("f32x4.add", total, op("v128.load", c)))
        f.store("v128.store", c, total)
        return
    single = f.local(op("f32x4.extract_lane", sum_of_four(f, [row[0]] * 4), immediate=0))
    with f.if_(adds):
        f.set(single, op("f32.add", single, op("f32.load", c)))
    f.store("f32.store", c, single)


def sum_of_four(f: Function, vectors: Sequence[Operand]) -> Operand:
    """The sums over the lanes of four vectors, as one vector."""
    a, b, c, d = vectors

    def pairs(x: Operand, y: Operand) -> Local:
        return f.local(op("f32x4.add", shuffle(x, y, 0, 4, 1, 5), shuffle(x, y, 2, 6, 3, 7)))

    x, y = pairs(a, b), pairs(c, d)
    return op("f32x4.add", shuffle(x, y, 0, 1, 4, 5), shuffle(x, y, 2, 3, 6, 7))

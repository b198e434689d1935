"""Which template computes a contraction, from its sizes at a typical batch size."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wgsl.contraction import Contraction
from hearth.codegen.wgsl.layout import TYPICAL_BATCH
from hearth.codegen.wgsl.shared_sum import Block
from hearth.codegen.wgsl.tiles import Tile
from hearth.ir.dim import product

ENOUGH_WORKGROUPS = 24  # about what keeps a small GPU busy
SMALL = 4  # fewer rows or columns than a template computes at once: loops
SHORT_SUM = 64  # fewer steps are not worth sharing
LONG_SUM = 4096  # more steps are shared: one thread's sum would grow inaccurate
MAX_WASTE = 1.6  # computed results per wanted result

# Steps and blocks are small because workgroup memory must be cleared: on SwiftShader the time to
# compile a kernel is proportional to its workgroup memory (16 KiB: more than a second).
# From the fastest per result to the one that fits anything; the first that fits is taken.
TILES = (
    Tile(wide=16, high=16, columns=8, rows=8, depth=8),
    Tile(wide=8, high=8, columns=8, rows=8, depth=8),
    Tile(wide=16, high=4, columns=8, rows=8, depth=8),
    Tile(wide=4, high=16, columns=8, rows=8, depth=8),
    Tile(wide=8, high=8, columns=4, rows=4, depth=8),
    Tile(wide=16, high=4, columns=4, rows=4, depth=8),
    Tile(wide=4, high=16, columns=4, rows=4, depth=8),
    Tile(wide=32, high=2, columns=4, rows=4, depth=8),
)
SMALL_TILES = TILES[4:]
BLOCKS = (Block(8, 8, lanes=32), Block(4, 8, lanes=64), Block(4, 4, lanes=64))


@dataclass(frozen=True, slots=True)
class _Sizes:
    """At a typical batch size."""

    batch: int
    rows: int
    columns: int
    depth: int

    def workgroups(self, shape: Tile | Block) -> int:
        down, across = -(-self.rows // shape.all_rows), -(-self.columns // shape.all_columns)
        return self.batch * down * across

    def waste(self, shape: Tile | Block) -> float:
        computed = self.workgroups(shape) * shape.all_rows * shape.all_columns
        return computed / (self.batch * self.rows * self.columns)


def choose_template(contraction: Contraction) -> Tile | Block | None:
    """A tile or a block, or None where loops do as well."""
    dims = (
        contraction.batch,
        contraction.rows.size,
        contraction.columns.size,
        product(contraction.depth),
    )
    sizes = _Sizes(*(dim.at(TYPICAL_BATCH) for dim in dims))
    if min(sizes.rows, sizes.columns) < SMALL:
        return None
    if sizes.depth <= LONG_SUM:
        for tile in TILES:
            # Large tiles need many workgroups: the last, partly filled round costs more.
            needed = ENOUGH_WORKGROUPS * (4 if tile.threads > 64 else 1)
            if sizes.workgroups(tile) >= needed and sizes.waste(tile) <= MAX_WASTE:
                return tile
    if sizes.depth < SHORT_SUM:
        return min(SMALL_TILES, key=sizes.waste)
    wide = (b for b in BLOCKS if sizes.workgroups(b) >= 4 * ENOUGH_WORKGROUPS)
    return next(wide, BLOCKS[-1])

"""Which template computes a contraction, from its sizes at a typical batch size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hearth.codegen.wgsl.contraction import Contraction
from hearth.codegen.wgsl.layout import TYPICAL_BATCH
from hearth.codegen.wgsl.module import MAX_BINDINGS, WgslKernel
from hearth.codegen.wgsl.registers import Registers, emit_registers
from hearth.codegen.wgsl.shared_sum import Block, emit_shared_sum
from hearth.codegen.wgsl.split import Split, emit_split
from hearth.codegen.wgsl.tiles import Tile, emit_tiles
from hearth.ir.dim import product

ENOUGH_WORKGROUPS = 24  # about what keeps a small GPU busy
SMALL = 4  # fewer rows or columns than a template computes at once: loops
SHORT_SUM = 64  # fewer steps are not worth sharing
LONG_SUM = 4096  # more steps are shared: one thread's sum would grow inaccurate
MAX_WASTE = 1.6  # computed results per wanted result
SHARE_OF_TILE = 256  # steps of the sum: fewer are not worth writing a partial result
SHARE_OF_LANE = 8
# Of a device in software: costs in vector instructions, of LANES threads each.
LANES, CORES = 4, 4
READ, MULTIPLY, STORE, BARRIER = 25, 2, 40, 400

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
# For software devices, where memory is slow next to arithmetic, and threads are lanes of a vector:
# many results per thread, few threads per workgroup.
REGISTERS = tuple(
    Registers(wide, high, columns, rows)
    for wide, high, columns, rows in ((4, 1, 8, 16), (4, 1, 8, 8), (4, 1, 8, 4), (4, 1, 4, 4))
)
QUADS = tuple(replace(shape, has_quads=True) for shape in REGISTERS)
SHARED = (Block(8, 8, lanes=8), Block(4, 8, lanes=16))

Template = Tile | Block | Registers | Split
TEMPLATES: dict[str, Template] = {
    **{f"tile{t.all_rows}x{t.all_columns}of{t.rows}x{t.columns}": t for t in TILES},
    **{f"sum{b.all_rows}x{b.all_columns}by{b.lanes}": b for b in (*BLOCKS, *SHARED)},
    **{f"registers{r.rows}x{r.columns}": r for r in REGISTERS},
    **{f"quads{r.rows}x{r.columns}": r for r in QUADS},
    **{f"split{t.all_rows}x{t.all_columns}": Split(t, 5) for t in (TILES[1], TILES[4], *BLOCKS)},
}


def emit_template(contraction: Contraction, template: Template) -> WgslKernel:
    """A contraction by a template."""
    match template:
        case Tile():
            return emit_tiles(contraction, template)
        case Block():
            return emit_shared_sum(contraction, template)
        case Registers():
            return emit_registers(contraction, template)
        case Split():
            return emit_split(contraction, template)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """At a typical batch size."""

    batch: int
    rows: int
    columns: int
    depth: int

    def workgroups(self, shape: Template) -> int:
        down, across = -(-self.rows // shape.all_rows), -(-self.columns // shape.all_columns)
        return self.batch * down * across

    def waste(self, shape: Template) -> float:
        computed = self.workgroups(shape) * shape.all_rows * shape.all_columns
        return computed / (self.batch * self.rows * self.columns)


def _sizes(contraction: Contraction) -> _Sizes:
    dims = (
        contraction.batch,
        contraction.rows.size,
        contraction.columns.size,
        product(contraction.depth),
    )
    return _Sizes(*(dim.at(TYPICAL_BATCH) for dim in dims))


def choose_template(contraction: Contraction, *, small: bool = False) -> Template | None:
    """A tile (of few results per thread, if `small`) or a block; None where loops do as well."""
    sizes = _sizes(contraction)
    if min(sizes.rows, sizes.columns) < SMALL:
        return None
    if sizes.depth <= LONG_SUM:
        for tile in SMALL_TILES if small else TILES:
            # Large tiles need many workgroups: the last, partly filled round costs more.
            needed = ENOUGH_WORKGROUPS * (4 if tile.threads > 64 else 1)
            if sizes.workgroups(tile) >= needed and sizes.waste(tile) <= MAX_WASTE:
                return tile
    if sizes.depth < SHORT_SUM:
        return min(SMALL_TILES, key=sizes.waste)
    wide = (b for b in BLOCKS if sizes.workgroups(b) >= 4 * ENOUGH_WORKGROUPS)
    return next(wide, BLOCKS[-1])


def choose_split(contraction: Contraction, least_workgroups: int) -> Split | None:
    """How to share the sum until there are enough workgroups.

    None where there are enough anyway, where the sum is short, or where no binding is left.
    """
    sizes = _sizes(contraction)
    if min(sizes.rows, sizes.columns) < SMALL or len(contraction.kernel.params) >= MAX_BINDINGS:
        return None
    found: list[tuple[int, Split]] = []
    for shape in (*TILES, *BLOCKS):
        if sizes.waste(shape) > MAX_WASTE:
            continue
        groups = sizes.workgroups(shape)
        if groups >= least_workgroups:
            break
        share = SHARE_OF_TILE if isinstance(shape, Tile) else SHARE_OF_LANE * shape.lanes
        shares = min(-(-least_workgroups // groups), sizes.depth // share)
        found.append((groups * shares, Split(shape, shares)))
        if 2 * groups * shares >= least_workgroups:  # a larger block is worth some workgroups
            break
    _, best = max(found, key=lambda one: one[0], default=(0, None))
    return best if best is not None and best.shares > 1 else None


def choose_for_software(contraction: Contraction, *, has_quads: bool) -> Template:
    """What a device in software computes fastest, by a count of what a thread does."""
    sizes = _sizes(contraction)
    shapes: tuple[Registers | Block, ...] = QUADS if has_quads else REGISTERS
    return min((*shapes, *SHARED), key=lambda shape: _software_cost(sizes, shape))


def _software_cost(sizes: _Sizes, shape: Registers | Block) -> float:
    """Vector instructions, on the core that has the most to do."""
    groups = sizes.workgroups(shape)
    if isinstance(shape, Block):
        rows, columns, read_rows = shape.all_rows, shape.all_columns, shape.all_rows
        steps = -(-sizes.depth // shape.lanes) * shape.lanes / LANES
        once = shape.lanes * (BARRIER + rows * columns * STORE / LANES)
    else:
        rows, columns = shape.rows, shape.columns
        read_rows = rows // 4 if shape.has_quads else rows
        steps, once = sizes.depth, rows * columns * STORE
    per_step = (read_rows + columns) * READ + rows * columns * MULTIPLY
    return -(-groups // CORES) * CORES * (steps * per_step + once)

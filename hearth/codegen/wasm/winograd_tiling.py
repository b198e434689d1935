"""How a convolution by minimal filtering walks its images: tiles, blocks of them, their transforms.

A block is some images, or some rows of tiles of one image: what it needs stays in the second-level
cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Local, Operand, i32, op
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.cook_toom import Filtering, Matrix
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.planes import Pair, Planes, copy_planes
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.winograd_transforms import transform_tile
from hearth.ir.dtype import ELEMENT_BYTES

BLOCK_BYTES = 1 << 20  # of both transformed operands of a product
LEAST_TILES = 12
LINE_BYTES = 64  # keeps the values of a tile out of one set of the first-level cache


Blocks = tuple[Block, Block]  # some images; some rows of tiles


@dataclass(frozen=True)
class Tiling:
    """How an image falls into tiles, and tiles into blocks."""

    outputs: int  # along each side of a tile
    extents: Pair
    images: int  # of a block
    rows: int  # of tiles of a block; all of them where it has several images

    @staticmethod
    def of(outputs: int, extents: Pair, bytes_per_tile: int) -> Tiling:
        most = max(LEAST_TILES, BLOCK_BYTES // bytes_per_tile)
        rows, columns = (-(-extent // outputs) for extent in extents)
        images = most // (rows * columns)
        if images:
            return Tiling(outputs, extents, images, rows)
        return Tiling(outputs, extents, 1, equal_part(rows, max(1, most // columns)))

    @property
    def counts(self) -> Pair:
        """Rows and columns of tiles."""
        rows, columns = (-(-extent // self.outputs) for extent in self.extents)
        return rows, columns

    @property
    def tiles(self) -> int:
        """Of a block, at most."""
        return self.images * self.rows * self.counts[1]

    @property
    def positions(self) -> Pair:
        """Rows and columns of results that the tiles of a block of one image cover."""
        return self.rows * self.outputs, self.counts[1] * self.outputs

    def planes(self, source: Pair, padding: Pair, window: int) -> Planes:
        """A source image so that no tile of a block crosses a border."""
        taps = tuple((y, x) for y in range(window) for x in range(window))
        return Planes(source, self.positions, taps, padding, (1, 1), self.positions[0])


@dataclass(frozen=True)
class TransformedTiles:
    """The tiles of a block in the transformed domain: rows of channels, value by value."""

    planes: Planes
    matrix: Matrix
    channels: int
    pitch: int  # from tile to tile, in elements
    tiles: int

    @property
    def point_bytes(self) -> int:
        """From one value of all tiles to the next."""
        return self.tiles * self.pitch * ELEMENT_BYTES + LINE_BYTES

    @property
    def elements(self) -> int:
        return len(self.matrix) ** 2 * self.point_bytes // ELEMENT_BYTES


class WinogradEmitter(ConvEmitter):
    """What the passes share: walking the blocks and the tiles in them."""

    filtering: Filtering
    tiling: Tiling

    @contextmanager
    def blocks_of_tiles(self, images: Block) -> Iterator[Blocks]:
        """Each block as the images and the rows of tiles that it has."""
        f, t = self.f, self.tiling
        rows = (i32(0), i32(t.counts[0]))
        is_single = t.rows >= t.counts[0]
        with (
            blocks(f, images, t.images, is_single=False) as some,
            blocks(f, rows, t.rows, is_single=is_single) as tiles,
        ):
            yield some, tiles

    @contextmanager
    def tiles_of_image(self, planes: Operand, rows: Operand, pitch: int) -> Iterator[Local]:
        """Where each tile of a block begins in planes with rows of `pitch` elements."""
        f, m, columns = self.f, self.tiling.outputs, self.tiling.counts[1]
        at = f.local(planes)
        with f.counted(rows):
            with f.counted(i32(columns)):
                yield at
                f.increment(at, m * ELEMENT_BYTES)
            f.increment(at, m * (pitch - columns) * ELEMENT_BYTES)

    def transform(self, t: TransformedTiles, channels: Operand, source: Operand,
                  source_bytes: int, block: Blocks, copies: Operand,
                  target: Operand) -> None:  # fmt: skip
        """All tiles of a block, from images `source_bytes` apart, through copies in planes."""
        f, (images, rows), planes = self.f, block, t.planes
        tile = transform_tile(
            self.maths, t.matrix, -(-t.channels // LANES), planes.width,
            planes.size * ELEMENT_BYTES, t.point_bytes,
        )  # fmt: skip
        image, to = f.local(source + images[0] * source_bytes), f.local(target)
        with f.counted(images[1]):
            first_row = rows[0] * self.tiling.outputs
            f.perform(f.call(copy_planes(self.maths, planes), copies, image, channels, first_row))
            with self.tiles_of_image(copies, rows[1], planes.width) as at:
                f.perform(f.call(tile, at, to))
                f.increment(to, t.pitch * ELEMENT_BYTES)
            f.increment(image, source_bytes)

    def count(self, block: Blocks) -> Operand:
        """How many tiles a block has."""
        (_, images), (_, rows) = block
        return self.f.local(op("i32.mul", images, rows) * self.tiling.counts[1])

    @property
    def points(self) -> int:
        return self.filtering.size**2


def round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def equal_part(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return -(-size // -(-size // most))

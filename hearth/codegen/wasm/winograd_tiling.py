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
from hearth.codegen.wasm.cook_toom import Filtering
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.planes import Pair, Planes, copy_planes
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.winograd_transforms import Matrices, transform_tile
from hearth.ir.dtype import ELEMENT_BYTES

BLOCK_BYTES = 1 << 20  # of both transformed operands of a product
LEAST_TILES = 12
LINE_BYTES = 64  # keeps the values of a tile out of one set of the first-level cache


Blocks = tuple[Block, Block]  # some images; some rows of tiles


@dataclass(frozen=True)
class Tiling:
    """How an image falls into tiles, and tiles into blocks."""

    outputs: Pair  # of a tile
    extents: Pair
    images: int  # of a block
    rows: int  # of tiles of a block; all of them where it has several images

    @staticmethod
    def of(outputs: Pair, extents: Pair, bytes_per_tile: int) -> Tiling:
        most = max(LEAST_TILES, BLOCK_BYTES // bytes_per_tile)
        rows, columns = tile_counts(outputs, extents)
        images = most // (rows * columns)
        if images:
            return Tiling(outputs, extents, images, rows)
        return Tiling(outputs, extents, 1, equal_part(rows, max(1, most // columns)))

    @property
    def counts(self) -> Pair:
        """Rows and columns of tiles."""
        return tile_counts(self.outputs, self.extents)

    @property
    def tiles(self) -> int:
        """Of a block, at most."""
        return self.images * self.rows * self.counts[1]

    @property
    def positions(self) -> Pair:
        """Rows and columns of results that the tiles of a block of one image cover."""
        return self.rows * self.outputs[0], self.counts[1] * self.outputs[1]

    def planes(self, source: Pair, padding: Pair, step: Pair, inputs: Pair) -> Planes:
        """A source image so that no tile of a block crosses a border."""
        positions = (self.rows * step[0], self.counts[1] * step[1])
        last = (inputs[0] - step[0], inputs[1] - step[1])
        return Planes(source, positions, (last,), padding, (1, 1), positions[0])


@dataclass(frozen=True)
class TransformedTiles:
    """The tiles of a block in the transformed domain: rows of channels, value by value."""

    planes: Planes
    step: Pair  # from tile to tile in the planes
    matrices: Matrices
    pitch: int  # from tile to tile, in elements
    tiles: int

    @property
    def point_bytes(self) -> int:
        """From one value of all tiles to the next."""
        return self.tiles * self.pitch * ELEMENT_BYTES + LINE_BYTES

    @property
    def elements(self) -> int:
        rows, columns = self.matrices
        return len(rows) * len(columns) * self.point_bytes // ELEMENT_BYTES


class WinogradEmitter(ConvEmitter):
    """What the passes share: walking the blocks and the tiles in them."""

    filtering: tuple[Filtering, Filtering]  # along y and along x
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

    def share_of_tiles(self, block: Blocks) -> tuple[Blocks, Operand]:
        """This thread's share of a block, and how many tiles come before it."""
        f, (image, rows), columns = self.f, block, self.tiling.counts[1]
        if self.tiling.images == 1:
            first, count = self.share(rows[1])
            return (image, (rows[0] + first, count)), f.local(first * columns)
        first, count = self.share(image[1])
        before = op("i32.mul", first, rows[1]) * columns
        return ((image[0] + first, count), rows), f.local(before)

    @contextmanager
    def tiles_of_image(self, planes: Operand, rows: Operand, pitch: int,
                       step: Pair) -> Iterator[Local]:  # fmt: skip
        """Where each tile of a block begins in planes with rows of `pitch` elements."""
        f, columns = self.f, self.tiling.counts[1]
        at = f.local(planes)
        with f.counted(rows):
            with f.counted(i32(columns)):
                yield at
                f.increment(at, step[1] * ELEMENT_BYTES)
            f.increment(at, (step[0] * pitch - step[1] * columns) * ELEMENT_BYTES)

    def transform(self, t: TransformedTiles, channels: Block, source: Operand,
                  source_bytes: int, block: Blocks, copies: Operand,
                  target: Operand) -> None:  # fmt: skip
        """All tiles of a block, from images `source_bytes` apart, through copies in planes.

        Of some channels, from a multiple of four on.
        """
        f, (images, rows), planes = self.f, block, t.planes
        tile = transform_tile(
            self.maths, t.matrices, planes.width, planes.size * ELEMENT_BYTES, t.point_bytes
        )
        first, count = channels
        groups = f.local(op("i32.shr_u", count + (LANES - 1), 2))
        before = first * (planes.source[0] * planes.source[1] * ELEMENT_BYTES)
        image = f.local(source + images[0] * source_bytes + before)
        to = f.local(target + first * ELEMENT_BYTES)
        with f.counted(images[1]):
            first_row = rows[0] * t.step[0]
            f.perform(f.call(copy_planes(self.maths, planes), copies, image, count, first_row))
            with self.tiles_of_image(copies, rows[1], planes.width, t.step) as at:
                f.perform(f.call(tile, at, to, groups))
                f.increment(to, t.pitch * ELEMENT_BYTES)
            f.increment(image, source_bytes)

    def count(self, block: Blocks) -> Operand:
        """How many tiles a block has."""
        (_, images), (_, rows) = block
        return self.f.local(op("i32.mul", images, rows) * self.tiling.counts[1])

    @property
    def points(self) -> int:
        return self.filtering[0].size * self.filtering[1].size


def tile_counts(outputs: Pair, extents: Pair) -> Pair:
    """Rows and columns of tiles that cover an image."""
    return -(-extents[0] // outputs[0]), -(-extents[1] // outputs[1])


def round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def equal_part(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return -(-size // -(-size // most))

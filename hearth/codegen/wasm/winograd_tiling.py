"""How a convolution by minimal filtering walks its images: tiles, blocks of them, their transforms.

A block is some images, or some rows of tiles of one image: what it needs stays in the second-level
cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Local, Operand, i32, op
from hearth.codegen.wasm.cook_toom import Filtering
from hearth.codegen.wasm.gemm import Block
from hearth.codegen.wasm.planes import Pair, Planes, copy_planes
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.transformed import (
    BLOCK_BYTES,
    LEAST_TILES,
    LINE_BYTES,
    Blocking,
    Blocks,
    TransformedEmitter,
)
from hearth.codegen.wasm.winograd_transforms import Matrices, transform_tile
from hearth.ir.dtype import ELEMENT_BYTES


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


class WinogradEmitter(TransformedEmitter):
    """What the passes share: walking the tiles of blocks, and their transforms."""

    filtering: tuple[Filtering, Filtering]  # along y and along x
    tiling: Tiling

    @property
    def blocking(self) -> Blocking:
        return Blocking(self.tiling.images, self.tiling.rows, *self.tiling.counts)

    @property
    def products(self) -> int:
        return self.filtering[0].size * self.filtering[1].size

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


def tile_counts(outputs: Pair, extents: Pair) -> Pair:
    """Rows and columns of tiles that cover an image."""
    return -(-extents[0] // outputs[0]), -(-extents[1] // outputs[1])


def round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def equal_part(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return -(-size // -(-size // most))

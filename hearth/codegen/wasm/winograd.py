"""Convolutions of 3x3 filters, stride 1, by minimal filtering (Winograd), and their gradients.

    forward, input_grad    M[p] = V[p] · U[p]            V tiles of the source, U filters
    weight_grad            P[p] += Z[p]^T · V[p]         Z tiles of g, V tiles of x

One matrix product for each value p of a tile; all rows and columns are tiles and channels, so that
nothing is padded but the last tiles of an image.  A block is some images, or some rows of tiles of
one image: what it needs stays in the second-level cache.  Source: `cook_toom.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Local, Operand, i32, op, select
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.cook_toom import Filtering, transposed
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import BLOCK_K, Block, blocks, equal_block
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.planes import Pair, Planes, copy_planes
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.tiles import splat_block
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.codegen.wasm.winograd_transforms import (
    WINDOW,
    finish_tile,
    finish_weights,
    transform_tile,
    transform_weights,
)
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.index import Index
from hearth.ir.kernel import ConvTemplate, Kernel

BLOCK_BYTES = 640 << 10  # of both transformed operands of a product
LEAST_TILES = 12
STATIONARY_BYTES = 4 << 20  # of what stays over all blocks: filters, or sums of their gradients
LINE_BYTES = 64  # keeps the values of a tile out of one set of the first-level cache


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
        return Tiling(outputs, extents, 1, _equal(rows, max(1, most // columns)))

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


class _Winograd(ConvEmitter):
    """What the passes share: walking the blocks and the tiles in them."""

    filtering: Filtering
    tiling: Tiling

    @contextmanager
    def blocks_of_tiles(self, images: Block) -> Iterator[tuple[Block, Block]]:
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

    def transform(self, planes: Planes, channels: Operand, matrix: str, groups: int,
                  source: Operand, source_bytes: int, block: tuple[Block, Block],
                  copies: Operand, target: Operand, pitch: int,
                  point_bytes: int) -> None:  # fmt: skip
        """All tiles of a block, from images `source_bytes` apart to rows of `pitch` elements."""
        f, (images, rows) = self.f, block
        m = getattr(self.filtering, matrix)
        if matrix == "result":
            m = transposed(m)
        tile = transform_tile(
            self.maths, m, groups, planes.width, planes.size * ELEMENT_BYTES, point_bytes
        )
        image, to = f.local(source + images[0] * source_bytes), f.local(target)
        with f.counted(images[1]):
            first_row = rows[0] * self.tiling.outputs
            f.perform(f.call(copy_planes(self.maths, planes), copies, image, channels, first_row))
            with self.tiles_of_image(copies, rows[1], planes.width) as at:
                f.perform(f.call(tile, at, to))
                f.increment(to, pitch * ELEMENT_BYTES)
            f.increment(image, source_bytes)

    def count(self, block: tuple[Block, Block]) -> Operand:
        """How many tiles a block has."""
        (_, images), (_, rows) = block
        return self.f.local(op("i32.mul", images, rows) * self.tiling.counts[1])

    @property
    def points(self) -> int:
        return self.filtering.size**2


class Images(_Winograd):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 filtering: Filtering) -> None:  # fmt: skip
        self.filtering, self.is_forward = filtering, t.kind == "forward"
        channels, extents = (s.in_channels, s.out_channels), (s.image, s.result)
        padding = s.padding
        if not self.is_forward:
            channels, extents = channels[::-1], extents[::-1]
            padding = (WINDOW - 1 - padding[0], WINDOW - 1 - padding[1])
        (self.sources, self.targets), (self.source, self.result) = channels, extents
        per_target = self.points * self.sources * ELEMENT_BYTES
        most = max(PANEL, STATIONARY_BYTES // per_target // PANEL * PANEL)
        self.block = _up(_equal(self.targets, most), PANEL)
        self.pitch = _up(self.sources, LANES)  # of a tile in V; in M it is `block`
        per_tile = self.points * (self.pitch + self.block) * ELEMENT_BYTES
        self.tiling = Tiling.of(filtering.outputs, self.result, per_tile)
        self.planes = self.tiling.planes(self.source, padding, WINDOW)
        self.plane = self.tiling.positions[0] * self.tiling.positions[1]  # of results
        self.u_bytes = self.block * self.sources * ELEMENT_BYTES + LINE_BYTES
        self.v_bytes = self.tiling.tiles * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.m_bytes = self.tiling.tiles * self.block * ELEMENT_BYTES + LINE_BYTES
        super().__init__(target, kernel, t, (
            self.tiling.images * self.block * self.plane,
            *(self.points * n // ELEMENT_BYTES for n in (self.u_bytes, self.v_bytes, self.m_bytes)),
            self.pitch * self.planes.size,
        ))  # fmt: skip
        self.sums, self.u, self.v, self.m, self.copies = self.region
        self.epilogue = self._epilogue(kernel)

    def _epilogue(self, kernel: Kernel) -> Epilogue:
        self.blocked = [0]
        if self.targets > self.block or self._splits_channels:
            self.blocked.append(1)
        if self.tiling.rows < self.tiling.counts[0]:
            self.blocked.append(2)
        steps = (self.block * self.plane, self.plane, self.tiling.positions[1], 1)
        where = sum((axis_of(kernel, i) * step for i, step in enumerate(steps)), Index())
        size = Dim.of(self.tiling.images * self.block * self.plane)
        return Epilogue.of(self.maths, kernel, where, size, self.blocked)

    @property
    def _splits_channels(self) -> bool:
        """Whether threads divide the target channels: the filters are more work than the tiles."""
        tiles = TYPICAL_BATCH * self.tiling.counts[0] * self.tiling.counts[1]
        return self.targets > tiles

    def emit(self) -> None:
        images: Block = (i32(0), self.images)
        targets: Block = (i32(0), i32(self.targets))
        if self._splits_channels:
            targets = self.split(targets[1])
        else:
            images = self.split(images[1])
        is_single = self.targets <= self.block and not self._splits_channels
        with blocks(self.f, targets, self.block, is_single=is_single) as channels:
            self._filters(channels)
            with self.blocks_of_tiles(images) as block:
                self._block(block, channels)

    def _filters(self, channels: Block) -> None:
        window = WINDOW * WINDOW * ELEMENT_BYTES
        steps = (window, self.sources * window)
        if not self.is_forward:
            steps = (self.targets * window, window)
        transform = transform_weights(self.maths, self.filtering.filter, self.sources, *steps,
                                      self.u_bytes, is_turned=not self.is_forward)  # fmt: skip
        at = self.b + channels[0] * steps[1]
        self.f.perform(self.f.call(transform, at, self.u, channels[1]))

    def _block(self, block: tuple[Block, Block], channels: Block) -> None:
        image_bytes = self.sources * self.source[0] * self.source[1] * ELEMENT_BYTES
        self.transform(self.planes, i32(self.sources), "data", self.pitch // LANES, self.a,
                       image_bytes, block, self.copies, self.v, self.pitch,
                       self.v_bytes)  # fmt: skip
        self._multiply(self.count(block), channels)
        self._finish(block, channels)
        self._store(block, channels)

    def _multiply(self, tiles: Operand, channels: Block) -> None:
        f, width = self.f, PANEL * ELEMENT_BYTES
        row = self.pitch * ELEMENT_BYTES
        panels = f.local(op("i32.shr_u", channels[1] + (PANEL - 1), 3))
        product = splat_block(self.maths, row)
        v, u, m = f.local(self.v), f.local(self.u), f.local(self.m)
        most = equal_block(self.sources, BLOCK_K)
        with f.counted(i32(self.points)):
            for k in range(0, self.sources, most):
                f.perform(f.call(
                    product, v + k * ELEMENT_BYTES, u + k * width, m, tiles, panels,
                    min(most, self.sources - k), row, ELEMENT_BYTES, self.sources * width, width,
                    self.block * ELEMENT_BYTES, int(k > 0),
                ))  # fmt: skip
            f.increment(v, self.v_bytes)
            f.increment(u, self.u_bytes)
            f.increment(m, self.m_bytes)

    def _finish(self, block: tuple[Block, Block], channels: Block) -> None:
        f, (images, rows) = self.f, block
        pitch = self.tiling.positions[1]
        tile = finish_tile(
            self.maths, self.filtering.result, pitch, self.plane * ELEMENT_BYTES, self.m_bytes
        )
        groups = f.local(op("i32.shr_u", channels[1] + (LANES - 1), 2))
        source, image = f.local(self.m), f.local(self.sums)
        with f.counted(images[1]):
            with self.tiles_of_image(image, rows[1], pitch) as at:
                f.perform(f.call(tile, source, at, groups))
                f.increment(source, self.block * ELEMENT_BYTES)
            f.increment(image, self.block * self.plane * ELEMENT_BYTES)

    def _store(self, block: tuple[Block, Block], channels: Block) -> None:
        f, m = self.f, self.tiling.outputs
        (image, images), (row, rows) = block
        end = f.local((row + rows) * m)
        end = f.local(select(op("i32.lt_s", end, self.result[0]), end, i32(self.result[0])))
        ranges = {0: (image, image + images), 1: (channels[0], channels[0] + channels[1]),
                  2: (row * m, end)}  # fmt: skip
        before = image * (self.block * self.plane) + row * (m * self.tiling.positions[1])
        if 1 in self.blocked:
            before = before + channels[0] * self.plane
        origin = self.sums - before * ELEMENT_BYTES
        own = [ranges[axis] for axis in self.blocked]
        self.epilogue.call(f, self.batch, own, self.pointers, origin)


class Weights(_Winograd):
    """Weight gradient: transformed sums over all images of a block of output channels."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 filtering: Filtering) -> None:  # fmt: skip
        self.s, self.filtering = s, filtering
        self.pitch = _up(s.in_channels, PANEL)  # of a tile in V and of a row of P
        most = max(PANEL, STATIONARY_BYTES // (self.points * self.pitch * ELEMENT_BYTES))
        self.block = _up(_equal(s.out_channels, most), LANES)
        per_tile = self.points * (self.pitch + self.block) * ELEMENT_BYTES
        self.tiling = Tiling.of(filtering.outputs, s.result, per_tile)
        self.planes = self.tiling.planes(s.image, s.padding, WINDOW)
        self.gradient = self.tiling.planes(s.result, (0, 0), 1)
        self.v_bytes = self.tiling.tiles * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.z_bytes = self.tiling.tiles * self.block * ELEMENT_BYTES + LINE_BYTES
        self.p_bytes = self.block * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.row = s.in_channels * WINDOW * WINDOW
        super().__init__(target, kernel, t, (
            self.block * self.row + LANES * WINDOW * WINDOW,
            *(self.points * n // ELEMENT_BYTES for n in (self.v_bytes, self.z_bytes, self.p_bytes)),
            self.pitch * self.planes.size, self.block * self.gradient.size,
        ))  # fmt: skip
        self.sums, self.v, self.z, self.p, self.copies, self.errors = self.region
        steps = (self.row, WINDOW * WINDOW, WINDOW, 1)
        where = sum((axis_of(kernel, i) * step for i, step in enumerate(steps)), Index())
        size = Dim.of(self.block * self.row)
        self.epilogue = Epilogue.of(self.maths, kernel, where, size, (0,))

    def emit(self) -> None:
        f, s = self.f, self.s
        targets = self.split(i32(s.out_channels))
        with blocks(f, targets, self.block, is_single=False) as channels:
            adds = f.local(i32(0))
            with self.blocks_of_tiles((i32(0), self.images)) as block:
                self._transform(block, channels)
                self._multiply(self.count(block), channels, adds)
                f.set(adds, i32(1))
            groups = -(-s.in_channels // LANES)
            finish = finish_weights(
                self.maths, transposed(self.filtering.filter), groups, self.pitch * ELEMENT_BYTES,
                s.in_channels, self.p_bytes,
            )  # fmt: skip
            f.perform(f.call(finish, self.p, self.sums, channels[1]))
            origin = self.sums - channels[0] * (self.row * ELEMENT_BYTES)
            ranges = [(channels[0], channels[0] + channels[1])]
            self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _transform(self, block: tuple[Block, Block], channels: Block) -> None:
        s = self.s
        image_bytes = s.in_channels * s.image[0] * s.image[1] * ELEMENT_BYTES
        self.transform(self.planes, i32(s.in_channels), "data", -(-s.in_channels // LANES), self.b,
                       image_bytes, block, self.copies, self.v, self.pitch,
                       self.v_bytes)  # fmt: skip
        result_bytes = s.result[0] * s.result[1] * ELEMENT_BYTES
        self.transform(self.gradient, channels[1], "result", self.block // LANES,
                       self.a + channels[0] * result_bytes, s.out_channels * result_bytes, block,
                       self.errors, self.z, self.block, self.z_bytes)  # fmt: skip

    def _multiply(self, tiles: Operand, channels: Block, adds: Operand) -> None:
        f, panels = self.f, self.pitch // PANEL
        product = splat_block(self.maths, ELEMENT_BYTES)
        z, v, p = f.local(self.z), f.local(self.v), f.local(self.p)
        row = self.pitch * ELEMENT_BYTES
        with f.counted(i32(self.points)):
            f.perform(f.call(
                product, z, v, p, channels[1], panels, tiles, ELEMENT_BYTES,
                self.block * ELEMENT_BYTES, PANEL * ELEMENT_BYTES, row, row, adds,
            ))  # fmt: skip
            f.increment(z, self.z_bytes)
            f.increment(v, self.v_bytes)
            f.increment(p, self.p_bytes)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _equal(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return -(-size // -(-size // most))

"""Convolutions as products of transformed tiles: who transforms what, and the products.

    forward, input_grad    M[p] = V[p] · U[p]            V tiles of the source, U filters
    weight_grad            P[p] += Z[p]^T · V[p]         Z tiles of g, V tiles of x

One matrix product for each number p of a transformed tile; its rows are tiles.  How tiles are
transformed is the business of minimal filtering (`winograd.py`) and of Fourier transforms
(`fourier_dense.py`).

Threads divide the images and share the transformed filters; or they divide the target channels and
share the transformed tiles, as they do for weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Operand, i32, op, select
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.gemm_plan import BLOCK_K, equal_block
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.tiles import splat_block
from hearth.ir.dtype import ELEMENT_BYTES

BLOCK_BYTES = 1 << 20  # of both transformed operands of a product
LEAST_TILES = 12
LINE_BYTES = 64  # keeps the values of a tile out of one set of the first-level cache
FEW_CHANNELS = 32  # with fewer, shares of the channels of a tile would lie in one cache line

Blocks = tuple[Block, Block]  # some images; some rows of tiles


@dataclass(frozen=True)
class Blocking:
    """How tiles fall into blocks: some images, or some rows of tiles of one image."""

    images: int  # of a block
    rows: int  # of tiles of a block; all of them where it has several images
    all_rows: int  # of an image
    columns: int  # tiles of a row


class TransformedEmitter(ConvEmitter):
    """What the passes share: walking the blocks."""

    block: int  # of target channels, at most
    pitch: int  # of a row of V
    v_bytes: int  # from one product to the next

    @property
    def blocking(self) -> Blocking:
        raise NotImplementedError

    @property
    def products(self) -> int:
        """Numbers of a transformed tile."""
        raise NotImplementedError

    @contextmanager
    def blocks_of_tiles(self, images: Block) -> Iterator[Blocks]:
        """Each block as the images and the rows of tiles that it has."""
        f, b = self.f, self.blocking
        rows = (i32(0), i32(b.all_rows))
        with (
            blocks(f, images, b.images, is_single=False) as some,
            blocks(f, rows, b.rows, is_single=b.rows >= b.all_rows) as own,
        ):
            yield some, own

    def share_of_block(self, block: Blocks) -> tuple[Blocks, Operand]:
        """This thread's share of a block, and how many tiles come before it."""
        f, (images, rows), columns = self.f, block, self.blocking.columns
        if self.blocking.images == 1:
            first, count = self.share(rows[1])
            return (images, (f.local(rows[0] + first), count)), f.local(first * columns)
        first, count = self.share(images[1])
        before = op("i32.mul", first, rows[1]) * columns
        return ((f.local(images[0] + first), count), rows), f.local(before)

    def count(self, block: Blocks) -> Operand:
        """How many tiles a block has."""
        (_, images), (_, rows) = block
        return self.f.local(op("i32.mul", images, rows) * self.blocking.columns)


class TransformedImages(TransformedEmitter):
    """Forward and input gradient."""

    sources: int  # channels
    targets: int
    u: Operand
    v: Operand
    m: Operand
    u_bytes: int
    m_bytes: int

    def divide(self, own_u: Operand, u_region: int, own_v: Operand, v_region: int,
               tiles_of_image: int) -> None:  # fmt: skip
        """Decides whether threads divide images or targets; they share U or V of the first."""
        f, tiles = self.f, self.images * tiles_of_image
        has_more_filters = op("i32.lt_u", tiles, self.targets)  # to transform than tiles
        self.by_channels = f.local(op("i32.or", self.divides_parts(), has_more_filters))
        self.by_images = f.local(op("i32.eqz", self.by_channels))
        self.u = f.local(select(self.by_channels, own_u, self.common(u_region)))
        self.v = f.local(select(self.by_channels, self.common(v_region), own_v))

    def emit(self) -> None:
        f, targets = self.f, i32(self.targets)
        images = self.share(self.images, is_divided=self.by_images)
        end = f.local(images[0] + images[1])
        sharers = f.local(select(self.by_channels, self.threads, i32(1)))
        most = op("i32.div_u", sharers + (self.targets - 1), sharers)
        own = self.share(targets, is_divided=self.by_channels)
        with self.blocks_of_channels(own, most, self.block) as channels:
            self.transform_filters(channels)
            self.meet_if(self.by_images)
            with f.if_(images[1]), self.blocks_of_tiles((images[0], end)) as block:
                self.transform_sources(block)
                self.meet_if(self.by_channels)
                with f.if_(channels[1]):
                    self._multiply(self.count(block), channels)
                    self.store(block, channels)
                self.meet_if(self.by_channels)  # before the next tiles take the place
            if self.targets > self.block:
                self.meet_if(self.by_images)  # before the next filters take the place

    def meet_if(self, condition: Operand) -> None:
        with self.f.if_(condition):
            self.meet()

    def transform_filters(self, channels: Block) -> None:
        """This thread's part of U, of some targets."""
        raise NotImplementedError

    def transform_sources(self, block: Blocks) -> None:
        """This thread's part of V."""
        raise NotImplementedError

    def store(self, block: Blocks, channels: Block) -> None:
        """Results from M."""
        raise NotImplementedError

    def _multiply(self, tiles: Operand, channels: Block) -> None:
        f, width, row = self.f, PANEL * ELEMENT_BYTES, self.pitch * ELEMENT_BYTES
        panels = f.local(op("i32.shr_u", channels[1] + (PANEL - 1), 3))
        product = splat_block(self.maths, row)
        v, u, m = f.local(self.v), f.local(self.u), f.local(self.m)
        most = equal_block(self.sources, BLOCK_K)
        with f.counted(i32(self.products)):
            for k in range(0, self.sources, most):
                f.perform(f.call(
                    product, v + k * ELEMENT_BYTES, u + k * width, m, tiles, panels,
                    min(most, self.sources - k), row, ELEMENT_BYTES, self.sources * width, width,
                    self.block * ELEMENT_BYTES, int(k > 0),
                ))  # fmt: skip
            f.increment(v, self.v_bytes)
            f.increment(u, self.u_bytes)
            f.increment(m, self.m_bytes)


class TransformedWeights(TransformedEmitter):
    """Weight gradient: transformed sums over all images of a block of output channels."""

    z: Operand
    v: Operand
    p: Operand
    z_bytes: int
    p_bytes: int

    def emit(self) -> None:
        f, outputs = self.f, self.t.out_channels
        own = self.share(i32(outputs))
        most = op("i32.div_u", self.threads + (outputs - 1), self.threads)
        with self.blocks_of_channels(own, most, self.block) as channels:
            adds = f.local(i32(0))
            with self.blocks_of_tiles((i32(0), self.images)) as block:
                self.transform_sources(block)
                self.transform_errors(block, channels)
                self.meet()
                with f.if_(channels[1]):
                    self._multiply(self.count(block), channels, adds)
                self.meet()  # before the next tiles take the place
                f.set(adds, i32(1))
            with f.if_(channels[1]):
                self.store(channels)

    def transform_sources(self, block: Blocks) -> None:
        """This thread's part of V."""
        raise NotImplementedError

    def transform_errors(self, block: Blocks, channels: Block) -> None:
        """Z of some output channels."""
        raise NotImplementedError

    def store(self, channels: Block) -> None:
        """Results from P."""
        raise NotImplementedError

    def _multiply(self, tiles: Operand, channels: Block, adds: Operand) -> None:
        f, panels = self.f, self.pitch // PANEL
        product = splat_block(self.maths, ELEMENT_BYTES)
        z, v, p = f.local(self.z), f.local(self.v), f.local(self.p)
        row = self.pitch * ELEMENT_BYTES
        with f.counted(i32(self.products)):
            f.perform(f.call(
                product, z, v, p, channels[1], panels, tiles, ELEMENT_BYTES,
                self.block * ELEMENT_BYTES, PANEL * ELEMENT_BYTES, row, row, adds,
            ))  # fmt: skip
            f.increment(z, self.z_bytes)
            f.increment(v, self.v_bytes)
            f.increment(p, self.p_bytes)

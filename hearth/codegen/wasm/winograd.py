"""Convolutions by minimal filtering (Winograd), and their gradients.

    forward, input_grad    M[p] = V[p] · U[p]            V tiles of the source, U filters
    weight_grad            P[p] += Z[p]^T · V[p]         Z tiles of g, V tiles of x

One matrix product for each value p of a tile; all rows and columns are tiles and channels, so that
nothing is padded but the last tiles of an image.  Source: `cook_toom.py`.

Threads divide the images and share the transformed filters; or they divide the target channels and
share the transformed tiles, as they do for weights.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Operand, i32, op, select
from hearth.codegen.wasm.conv_emitter import weights_epilogue
from hearth.codegen.wasm.cook_toom import Filtering, transposed
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import Block
from hearth.codegen.wasm.gemm_plan import BLOCK_K, equal_block
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.tiles import splat_block
from hearth.codegen.wasm.winograd_tiling import (
    LINE_BYTES,
    Blocks,
    Tiling,
    TransformedTiles,
    WinogradEmitter,
    equal_part,
    round_up,
)
from hearth.codegen.wasm.winograd_transforms import (
    finish_tile,
    finish_weights,
    transform_weights,
)
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.index import Index
from hearth.ir.kernel import ConvTemplate, Kernel

FEW_CHANNELS = 32  # with fewer, shares of the channels of a tile would lie in one cache line
STATIONARY_BYTES = 4 << 20  # of what stays over all blocks: filters, or sums of their gradients


class Images(WinogradEmitter):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 filtering: tuple[Filtering, Filtering]) -> None:  # fmt: skip
        self.filtering, self.is_forward = filtering, t.kind == "forward"
        self.axes, self.window = s.axes, s.kernel[0] * s.kernel[1]
        channels, extents = (s.in_channels, s.out_channels), (s.image, s.result)
        if not self.is_forward:
            channels, extents = channels[::-1], extents[::-1]
        (self.sources, self.targets), (self.source, self.result) = channels, extents
        per_target = self.points * self.sources * ELEMENT_BYTES
        most = max(PANEL, STATIONARY_BYTES // per_target // PANEL * PANEL)
        self.block = round_up(equal_part(self.targets, most), PANEL)
        self.pitch = round_up(self.sources, LANES)  # of a tile in V; in M it is `block`
        per_tile = self.points * (self.pitch + self.block) * ELEMENT_BYTES
        y, x = filtering
        self.tiling = Tiling.of((y.outputs, x.outputs), self.result, per_tile)
        step, inputs, padding = (y.step, x.step), (y.inputs, x.inputs), (y.padding, x.padding)
        planes = self.tiling.planes(self.source, padding, step, inputs)
        self.data = TransformedTiles(planes, step, (y.data, x.data), self.pitch, self.tiling.tiles)
        self.plane = self.tiling.positions[0] * self.tiling.positions[1]  # of results
        self.u_bytes = self.block * self.sources * ELEMENT_BYTES + LINE_BYTES
        self.m_bytes = self.tiling.tiles * self.block * ELEMENT_BYTES + LINE_BYTES
        u, m = (self.points * size // ELEMENT_BYTES for size in (self.u_bytes, self.m_bytes))
        super().__init__(target, kernel, t, (
            self.tiling.images * self.block * self.plane, u, self.data.elements, m,
            self.pitch * planes.size,
        ))  # fmt: skip
        self.sums, own_u, own_v, self.m, self.copies = self.region
        f = self.f
        tiles = self.images * (self.tiling.counts[0] * self.tiling.counts[1])
        has_more_filters = op("i32.lt_u", tiles, self.targets)  # to transform than tiles
        self.by_channels = f.local(op("i32.or", self.divides_parts(), has_more_filters))
        self.by_images = f.local(op("i32.eqz", self.by_channels))
        self.u = f.local(select(self.by_channels, own_u, self.common(1)))
        self.v = f.local(select(self.by_channels, self.common(2), own_v))
        self.epilogue = self._epilogue(kernel)

    def _epilogue(self, kernel: Kernel) -> Epilogue:
        self.blocked = [0, 1]
        if self.tiling.rows < self.tiling.counts[0] and self.axes[0] is not None:
            self.blocked.append(self.axes[0])
        steps = (self.block * self.plane, self.plane, self.tiling.positions[1], 1)
        axes = (0, 1, *self.axes)
        where = sum((axis_of(kernel, a) * step for a, step in zip(axes, steps, strict=True)
                     if a is not None), Index())  # fmt: skip
        size = Dim.of(self.tiling.images * self.block * self.plane)
        return Epilogue.of(self.maths, kernel, where, size, self.blocked)

    def emit(self) -> None:
        f, targets = self.f, i32(self.targets)
        images = self.share(self.images, is_divided=self.by_images)
        end = f.local(images[0] + images[1])
        sharers = f.local(select(self.by_channels, self.threads, i32(1)))
        most = op("i32.div_u", sharers + (self.targets - 1), sharers)
        own = self.share(targets, is_divided=self.by_channels)
        with self.blocks_of_channels(own, most, self.block) as channels:
            self._filters(channels)
            with f.if_(images[1]), self.blocks_of_tiles((images[0], end)) as block:
                self._block(block, channels)
            if self.targets > self.block:
                self._meet_if(self.by_images)  # before the next filters take the place

    def _meet_if(self, condition: Operand) -> None:
        with self.f.if_(condition):
            self.meet()

    def _filters(self, channels: Block) -> None:
        window = self.window * ELEMENT_BYTES
        steps = (window, self.sources * window)
        if not self.is_forward:
            steps = (self.targets * window, window)
        y, x = self.filtering
        transform = transform_weights(
            self.maths, (y.filter, x.filter), self.sources, *steps, self.u_bytes
        )
        first, count = self.share(channels[1], PANEL, is_divided=self.by_images)
        at = self.b + (channels[0] + first) * steps[1]
        to = self.u + first * (self.sources * ELEMENT_BYTES)
        self.f.perform(self.f.call(transform, at, to, count))
        self._meet_if(self.by_images)

    def _block(self, block: Blocks, channels: Block) -> None:
        image_bytes = self.sources * self.source[0] * self.source[1] * ELEMENT_BYTES
        sources = self.share(i32(self.sources), LANES, is_divided=self.by_channels)
        self.transform(self.data, sources, self.a, image_bytes, block, self.copies, self.v)
        self._meet_if(self.by_channels)
        with self.f.if_(channels[1]):
            self._multiply(self.count(block), channels)
            self._finish(block, channels)
            self._store(block, channels)
        self._meet_if(self.by_channels)  # before the next tiles take the place

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
            f.increment(v, self.data.point_bytes)
            f.increment(u, self.u_bytes)
            f.increment(m, self.m_bytes)

    def _finish(self, block: Blocks, channels: Block) -> None:
        f, (images, rows) = self.f, block
        pitch, (y, x) = self.tiling.positions[1], self.filtering
        tile = finish_tile(
            self.maths, (y.result, x.result), pitch, self.plane * ELEMENT_BYTES, self.m_bytes
        )
        groups = f.local(op("i32.shr_u", channels[1] + (LANES - 1), 2))
        source, image = f.local(self.m), f.local(self.sums)
        with f.counted(images[1]):
            with self.tiles_of_image(image, rows[1], pitch, self.tiling.outputs) as at:
                f.perform(f.call(tile, source, at, groups))
                f.increment(source, self.block * ELEMENT_BYTES)
            f.increment(image, self.block * self.plane * ELEMENT_BYTES)

    def _store(self, block: Blocks, channels: Block) -> None:
        f, m = self.f, self.tiling.outputs[0]
        (image, images), (row, rows) = block
        end = f.local((row + rows) * m)
        end = f.local(select(op("i32.lt_s", end, self.result[0]), end, i32(self.result[0])))
        ranges = {0: (image, image + images), 1: (channels[0], channels[0] + channels[1]),
                  self.axes[0]: (row * m, end)}  # fmt: skip
        before = image * (self.block * self.plane) + row * (m * self.tiling.positions[1])
        before = before + channels[0] * self.plane
        origin = self.sums - before * ELEMENT_BYTES
        own = [ranges[axis] for axis in self.blocked]
        self.epilogue.call(f, self.batch, own, self.pointers, origin)


class Weights(WinogradEmitter):
    """Weight gradient: transformed sums over all images of a block of output channels."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 filtering: tuple[Filtering, Filtering]) -> None:  # fmt: skip
        self.s, self.filtering, (y, x) = s, filtering, filtering
        self.pitch = round_up(s.in_channels, PANEL)  # of a tile in V and of a row of P
        most = max(PANEL, STATIONARY_BYTES // (self.points * self.pitch * ELEMENT_BYTES))
        self.block = round_up(equal_part(s.out_channels, most), LANES)
        per_tile = self.points * (self.pitch + self.block) * ELEMENT_BYTES
        outputs, step = (y.outputs, x.outputs), (y.step, x.step)
        self.tiling = Tiling.of(outputs, s.result, per_tile)
        planes, errors = (self.tiling.planes(s.image, s.padding, step, (y.inputs, x.inputs)),
                          self.tiling.planes(s.result, (0, 0), outputs, outputs))  # fmt: skip
        tiles = self.tiling.tiles
        self.data = TransformedTiles(planes, step, (y.data, x.data), self.pitch, tiles)
        spread = (transposed(y.result), transposed(x.result))
        self.errors = TransformedTiles(errors, outputs, spread, self.block, tiles)
        self.p_bytes = self.block * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.window = y.taps * x.taps
        self.row = s.in_channels * self.window
        super().__init__(target, kernel, t, (
            self.block * self.row + LANES * self.window,
            self.data.elements, self.errors.elements, self.points * self.p_bytes // ELEMENT_BYTES,
            self.pitch * planes.size, self.block * errors.size,
        ))  # fmt: skip
        self.sums, _, self.z, self.p, self.x, self.g = self.region
        self.v = self.common(1)
        self.epilogue = weights_epilogue(self.maths, kernel, self.block * self.row)

    def emit(self) -> None:
        f, s = self.f, self.s
        own = self.share(i32(s.out_channels))
        most = op("i32.div_u", self.threads + (s.out_channels - 1), self.threads)
        with self.blocks_of_channels(own, most, self.block) as channels:
            adds = f.local(i32(0))
            with self.blocks_of_tiles((i32(0), self.images)) as block:
                self._transform(block, channels)
                self.meet()
                with f.if_(channels[1]):
                    self._multiply(self.count(block), channels, adds)
                self.meet()  # before the next tiles take the place
                f.set(adds, i32(1))
            with f.if_(channels[1]):
                self._finish(channels)

    def _finish(self, channels: Block) -> None:
        f, s, (y, x) = self.f, self.s, self.filtering
        groups = -(-s.in_channels // LANES)
        finish = finish_weights(
            self.maths, (transposed(y.filter), transposed(x.filter)), groups,
            self.pitch * ELEMENT_BYTES, s.in_channels, self.p_bytes,
        )  # fmt: skip
        f.perform(f.call(finish, self.p, self.sums, channels[1]))
        origin = self.sums - channels[0] * (self.row * ELEMENT_BYTES)
        ranges = [(channels[0], channels[0] + channels[1])]
        self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _transform(self, block: Blocks, channels: Block) -> None:
        s = self.s
        image_bytes = s.in_channels * s.image[0] * s.image[1] * ELEMENT_BYTES
        sources, own, v = (i32(0), i32(s.in_channels)), block, self.v
        if s.in_channels < FEW_CHANNELS:
            own, before = self.share_of_tiles(block)
            v = self.f.local(v + before * (self.pitch * ELEMENT_BYTES))
        else:
            sources = self.share(i32(s.in_channels), LANES)
        self.transform(self.data, sources, self.b, image_bytes, own, self.x, v)
        result_bytes = s.result[0] * s.result[1] * ELEMENT_BYTES
        first = self.a + channels[0] * result_bytes
        self.transform(
            self.errors, (i32(0), channels[1]), first, s.out_channels * result_bytes, block,
            self.g, self.z,
        )  # fmt: skip

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
            f.increment(z, self.errors.point_bytes)
            f.increment(v, self.data.point_bytes)
            f.increment(p, self.p_bytes)

"""Convolutions by minimal filtering (Winograd), and their gradients: see `transformed.py`.

All rows and columns of the products are tiles and channels, so that nothing is padded but the last
tiles of an image.  Source: `cook_toom.py`.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import i32, op
from hearth.codegen.wasm.conv_emitter import weights_epilogue
from hearth.codegen.wasm.cook_toom import Filtering, transposed
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import Block
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.transformed import (
    FEW_CHANNELS,
    LINE_BYTES,
    Blocks,
    TransformedImages,
    TransformedWeights,
)
from hearth.codegen.wasm.winograd_tiling import (
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

STATIONARY_BYTES = 4 << 20  # of what stays over all blocks: filters, or sums of their gradients


class Images(WinogradEmitter, TransformedImages):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 filtering: tuple[Filtering, Filtering]) -> None:  # fmt: skip
        self.filtering, self.is_forward = filtering, t.kind == "forward"
        self.axes, self.window = s.axes, s.kernel[0] * s.kernel[1]
        channels, extents = (s.in_channels, s.out_channels), (s.image, s.result)
        if not self.is_forward:
            channels, extents = channels[::-1], extents[::-1]
        (self.sources, self.targets), (self.source, self.result) = channels, extents
        per_target = self.products * self.sources * ELEMENT_BYTES
        most = max(PANEL, STATIONARY_BYTES // per_target // PANEL * PANEL)
        self.block = round_up(equal_part(self.targets, most), PANEL)
        self.pitch = round_up(self.sources, LANES)  # of a tile in V; in M it is `block`
        per_tile = self.products * (self.pitch + self.block) * ELEMENT_BYTES
        y, x = filtering
        self.tiling = Tiling.of((y.outputs, x.outputs), self.result, per_tile)
        step, inputs, padding = (y.step, x.step), (y.inputs, x.inputs), (y.padding, x.padding)
        planes = self.tiling.planes(self.source, padding, step, inputs)
        self.data = TransformedTiles(planes, step, (y.data, x.data), self.pitch, self.tiling.tiles)
        self.plane = self.tiling.positions[0] * self.tiling.positions[1]  # of results
        self.u_bytes = self.block * self.sources * ELEMENT_BYTES + LINE_BYTES
        self.m_bytes = self.tiling.tiles * self.block * ELEMENT_BYTES + LINE_BYTES
        u, m = (self.products * size // ELEMENT_BYTES for size in (self.u_bytes, self.m_bytes))
        super().__init__(target, kernel, t, (
            self.tiling.images * self.block * self.plane, u, self.data.elements, m,
            self.pitch * planes.size,
        ))  # fmt: skip
        self.sums, own_u, own_v, self.m, self.copies = self.region
        self.v_bytes = self.data.point_bytes
        counts = self.tiling.counts
        self.divide(own_u, 1, own_v, 2, counts[0] * counts[1])
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

    def transform_filters(self, channels: Block) -> None:
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

    def transform_sources(self, block: Blocks) -> None:
        image_bytes = self.sources * self.source[0] * self.source[1] * ELEMENT_BYTES
        sources = self.share(i32(self.sources), LANES, is_divided=self.by_channels)
        self.transform(self.data, sources, self.a, image_bytes, block, self.copies, self.v)

    def store(self, block: Blocks, channels: Block) -> None:
        self._finish(block, channels)
        self._store(block, channels)

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
        end = f.smaller((row + rows) * m, self.result[0])
        ranges = {0: (image, image + images), 1: (channels[0], channels[0] + channels[1]),
                  self.axes[0]: (row * m, end)}  # fmt: skip
        before = image * (self.block * self.plane) + row * (m * self.tiling.positions[1])
        before = before + channels[0] * self.plane
        origin = self.sums - before * ELEMENT_BYTES
        own = [ranges[axis] for axis in self.blocked]
        self.epilogue.call(f, self.batch, own, self.pointers, origin)


class Weights(WinogradEmitter, TransformedWeights):
    """Weight gradient: transformed sums over all images of a block of output channels."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 filtering: tuple[Filtering, Filtering]) -> None:  # fmt: skip
        self.s, self.filtering, (y, x) = s, filtering, filtering
        self.pitch = round_up(s.in_channels, PANEL)  # of a tile in V and of a row of P
        most = max(PANEL, STATIONARY_BYTES // (self.products * self.pitch * ELEMENT_BYTES))
        self.block = round_up(equal_part(s.out_channels, most), LANES)
        per_tile = self.products * (self.pitch + self.block) * ELEMENT_BYTES
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
            self.data.elements, self.errors.elements, self.products * self.p_bytes // ELEMENT_BYTES,
            self.pitch * planes.size, self.block * errors.size,
        ))  # fmt: skip
        self.sums, _, self.z, self.p, self.x, self.g = self.region
        self.v = self.common(1)
        self.z_bytes, self.v_bytes = self.errors.point_bytes, self.data.point_bytes
        self.epilogue = weights_epilogue(self.maths, kernel, self.block * self.row)

    def store(self, channels: Block) -> None:
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

    def transform_sources(self, block: Blocks) -> None:
        s = self.s
        image_bytes = s.in_channels * s.image[0] * s.image[1] * ELEMENT_BYTES
        sources, own, v = (i32(0), i32(s.in_channels)), block, self.v
        if s.in_channels < FEW_CHANNELS:
            own, before = self.share_of_block(block)
            v = self.f.local(v + before * (self.pitch * ELEMENT_BYTES))
        else:
            sources = self.share(i32(s.in_channels), LANES)
        self.transform(self.data, sources, self.b, image_bytes, own, self.x, v)

    def transform_errors(self, block: Blocks, channels: Block) -> None:
        s = self.s
        result_bytes = s.result[0] * s.result[1] * ELEMENT_BYTES
        first = self.a + channels[0] * result_bytes
        self.transform(
            self.errors, (i32(0), channels[1]), first, s.out_channels * result_bytes, block,
            self.g, self.z,
        )  # fmt: skip

"""Convolutions over all channels by Fourier transforms, and their gradients: see `transformed.py`.

U, V and Z are spectra; there is a product for each number of a spectrum (`fourier_products.py`).
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import i32, op
from hearth.codegen.wasm.epilogue import Epilogue
from hearth.codegen.wasm.fourier_batches import Batch, DenseEmitter
from hearth.codegen.wasm.fourier_products import FACTORS, collect, spread
from hearth.codegen.wasm.fourier_tiling import Tiling, target_block
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
from hearth.codegen.wasm.winograd_tiling import round_up
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.kernel import ConvTemplate, Kernel

U_REGION, V_REGION = 6, 7


class Images(DenseEmitter, TransformedImages):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        self.is_forward = t.kind == "forward"
        channels = (s.in_channels, s.out_channels)
        self.sources, self.targets = channels if self.is_forward else channels[::-1]
        products = FACTORS * tiling.points
        self.block = target_block(tiling, self.sources, self.targets)
        self.pitch = round_up(self.sources, LANES)  # of a row of V; of M it is `block`
        per_tile = products * (self.pitch + self.block) * ELEMENT_BYTES
        self.group = Batch.of(tiling, s.kernel, not self.is_forward, per_tile)
        unit, rows = self.group.unit, self.group.rows
        self.u_bytes = self.block * self.sources * ELEMENT_BYTES + LINE_BYTES
        self.v_bytes = rows * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.m_bytes = rows * self.block * ELEMENT_BYTES + LINE_BYTES
        plane_bytes = unit.steps[0] * unit.steps[1] * ELEMENT_BYTES
        super().__init__(target, kernel, t, s, unit, plane_bytes, [
            self.block * plane_bytes, products * self.u_bytes, products * self.v_bytes,
            products * self.m_bytes, unit.filter_bytes,
        ])  # fmt: skip
        own_u, own_v, self.m, self.filter = self.own
        self.divide(own_u, U_REGION, own_v, V_REGION, tiling.tiles)
        self.epilogue = self.image_epilogue(kernel, self.block)

    def emit(self) -> None:
        self.prepare()
        self.clear(self.filter, self.unit.filter_bytes)
        super().emit()

    def transform_filters(self, channels: Block) -> None:
        f, (rows, columns) = self.f, self.s.kernel
        window = rows * columns * ELEMENT_BYTES
        source_bytes, target_bytes = window, self.sources * window
        if not self.is_forward:
            source_bytes, target_bytes = self.targets * window, window
        form = spread(self.maths, self.filter_places(self.u_bytes), is_filter=True)
        own = self.share(channels[1], PANEL, is_divided=self.by_images)
        with self.fours(own) as (first, count):
            at = f.local(self.b + (channels[0] + first) * target_bytes)
            panel = op("i32.shr_u", first, 3) * (self.sources * PANEL)
            to = f.local(self.u + (panel + op("i32.and", first, LANES)) * ELEMENT_BYTES)
            with f.counted(i32(self.sources)):
                self.filters_to_spectra(at, target_bytes, count, self.filter)
                f.perform(f.call(form, self.filter, to))
                f.increment(at, source_bytes)
                f.increment(to, PANEL * ELEMENT_BYTES)

    def transform_sources(self, block: Blocks) -> None:
        sources = self.share(i32(self.sources), LANES, is_divided=self.by_channels)
        places = self.places(self.pitch * ELEMENT_BYTES, self.v_bytes)
        self.spread_data(block, sources, self.sources, self.a, self.v, places, self.pitch)

    def store(self, block: Blocks, channels: Block) -> None:
        f, x = self.f, self.unit.tiling.x
        places = self.places(self.block * ELEMENT_BYTES, self.m_bytes)
        form = collect(self.maths, places)
        with self.units_of(block) as own:
            with self.fours((i32(0), channels[1])) as (first, _):
                at = self.m + (own.matrix_row * self.block + first) * ELEMENT_BYTES
                f.perform(f.call(form, at, self.spectra))
                self.transform_columns(self.spectra, is_inverse=True)
                to = f.local(self.sums + first * self.plane_bytes)
                row_bytes = x.outputs * ELEMENT_BYTES
                self.from_spectra(self.spectra, to, self.unit.rows, x.outputs, row_bytes, 1.0)
            self.store_image(self.epilogue, own.image, channels, own.rows, own.columns)


class Weights(DenseEmitter, TransformedWeights):
    """Weight gradient: spectra summed over all images, of a block of output channels."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        products = FACTORS * tiling.points
        self.pitch = round_up(s.in_channels, PANEL)  # of a row of V and of P
        self.block = target_block(tiling, s.in_channels, s.out_channels)
        per_tile = products * (self.pitch + self.block) * ELEMENT_BYTES
        self.group = Batch.of(tiling, s.kernel, False, per_tile)
        unit, rows = self.group.unit, self.group.rows
        self.v_bytes = rows * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.z_bytes = rows * self.block * ELEMENT_BYTES + LINE_BYTES
        self.p_bytes = self.block * self.pitch * ELEMENT_BYTES + LINE_BYTES
        plane_bytes = s.kernel[0] * s.kernel[1] * ELEMENT_BYTES
        super().__init__(target, kernel, t, s, unit, plane_bytes, [
            self.pitch * plane_bytes, products * self.p_bytes, products * self.v_bytes,
            products * self.z_bytes, unit.filter_bytes,
        ])  # fmt: skip
        self.p, _, self.z, self.filter = self.own
        self.v = self.common(V_REGION)
        plane = plane_bytes // ELEMENT_BYTES
        where = self.weight_index(kernel, (self.pitch * plane, plane))
        self.epilogue = Epilogue.of(self.maths, kernel, where, Dim.of(self.pitch * plane), (0,))

    def emit(self) -> None:
        self.prepare()
        self.clear(self.filter, self.unit.filter_bytes)
        super().emit()

    def transform_sources(self, block: Blocks) -> None:
        s = self.s
        sources, own, v = (i32(0), i32(s.in_channels)), block, self.v
        has_units = self.group.images * self.group.units > 1
        if s.in_channels < FEW_CHANNELS and has_units:
            own, before = self.share_of_block(block)
            v = self.f.local(v + before * (self.pitch * ELEMENT_BYTES))
        else:
            sources = self.share(i32(s.in_channels), LANES)
        places = self.places(self.pitch * ELEMENT_BYTES, self.v_bytes)
        self.spread_data(own, sources, s.in_channels, self.b, v, places, self.pitch)

    def transform_errors(self, block: Blocks, channels: Block) -> None:
        f, s, u = self.f, self.s, self.unit
        places = self.places(self.block * ELEMENT_BYTES, self.z_bytes)
        form = spread(self.maths, places, is_filter=True)
        with self.units_of(block) as own, self.fours((i32(0), channels[1])) as (first, count):
            channel = own.image * s.out_channels + channels[0] + first
            at = f.local(self.of_channel(self.a, channel, u.results))
            place = (own.rows[0], own.columns[0])
            self.to_spectra(u.errors, at, count, place, self.spectra, 0)
            self.transform_columns(self.spectra, is_inverse=False)
            to = self.z + (own.matrix_row * self.block + first) * ELEMENT_BYTES
            f.perform(f.call(form, self.spectra, to))

    def store(self, channels: Block) -> None:
        f = self.f
        form = collect(self.maths, self.filter_places(self.p_bytes))
        at, channel = f.local(self.p), f.local(channels[0])
        with f.counted(channels[1]):
            self.clear(self.sums, self.pitch * self.plane_bytes)
            with self.fours((i32(0), i32(self.s.in_channels))) as (first, _):
                f.perform(f.call(form, at + first * ELEMENT_BYTES, self.filter))
                self.transform_columns(self.filter, is_inverse=True)
                self.taps_from_spectra(self.filter, f.local(self.sums + first * self.plane_bytes))
            origin = self.sums - channel * (self.pitch * self.plane_bytes)
            self.epilogue.call(f, self.batch, [(channel, channel + 1)], self.pointers, origin)
            f.increment(at, self.pitch * ELEMENT_BYTES)
            f.increment(channel, 1)

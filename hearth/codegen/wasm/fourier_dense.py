"""Convolutions over all channels by Fourier transforms, and their gradients.

    forward, input_grad    M[p] = V[p] · U[p]            V spectra of the source, U of filters
    weight_grad            P[p] += Z[p]^T · V[p]         Z spectra of g, V of x

One matrix product for each number p of a spectrum (`fourier_products.py`); its rows are tiles.
Threads divide the images and share the transformed filters; or they divide the target channels and
share the transformed tiles, as they do for weights.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Operand, i32, op, select
from hearth.codegen.wasm.epilogue import Epilogue
from hearth.codegen.wasm.fourier_batches import Batch, DenseEmitter
from hearth.codegen.wasm.fourier_products import FACTORS, collect, spread
from hearth.codegen.wasm.fourier_tiling import Tiling, target_block
from hearth.codegen.wasm.gemm import Block
from hearth.codegen.wasm.gemm_plan import BLOCK_K, equal_block
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.tiles import splat_block
from hearth.codegen.wasm.winograd import FEW_CHANNELS
from hearth.codegen.wasm.winograd_tiling import LINE_BYTES, round_up
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.kernel import ConvTemplate, Kernel

U_REGION, V_REGION = 6, 7


class Images(DenseEmitter):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        self.is_forward = t.kind == "forward"
        channels = (s.in_channels, s.out_channels)
        self.channels, self.targets = channels if self.is_forward else channels[::-1]
        products = FACTORS * tiling.points
        self.block = target_block(tiling, self.channels, self.targets)
        self.pitch = round_up(self.channels, LANES)  # of a row of V; of M it is `block`
        per_tile = products * (self.pitch + self.block) * ELEMENT_BYTES
        self.group = Batch.of(tiling, s.kernel, not self.is_forward, per_tile)
        unit, rows = self.group.unit, self.group.rows
        self.u_bytes = self.block * self.channels * ELEMENT_BYTES + LINE_BYTES
        self.v_bytes = rows * self.pitch * ELEMENT_BYTES + LINE_BYTES
        self.m_bytes = rows * self.block * ELEMENT_BYTES + LINE_BYTES
        plane_bytes = unit.steps[0] * unit.steps[1] * ELEMENT_BYTES
        super().__init__(target, kernel, t, s, unit, plane_bytes, [
            self.block * plane_bytes, products * self.u_bytes, products * self.v_bytes,
            products * self.m_bytes, unit.filter_bytes,
        ])  # fmt: skip
        own_u, own_v, self.m, self.filter = self.own
        f = self.f
        tiles = self.images * tiling.tiles
        has_more_filters = op("i32.lt_u", tiles, self.targets)  # to transform than tiles
        self.by_channels = f.local(op("i32.or", self.divides_parts(), has_more_filters))
        self.by_images = f.local(op("i32.eqz", self.by_channels))
        self.u = f.local(select(self.by_channels, own_u, self.common(U_REGION)))
        self.v = f.local(select(self.by_channels, self.common(V_REGION), own_v))
        self.epilogue = self.image_epilogue(kernel, self.block)

    def emit(self) -> None:
        f, targets = self.f, i32(self.targets)
        self.prepare()
        self.clear(self.filter, self.unit.filter_bytes)
        images = self.share(self.images, is_divided=self.by_images)
        end = f.local(images[0] + images[1])
        sharers = f.local(select(self.by_channels, self.threads, i32(1)))
        most = op("i32.div_u", sharers + (self.targets - 1), sharers)
        own = self.share(targets, is_divided=self.by_channels)
        with self.blocks_of_channels(own, most, self.block) as channels:
            self._filters(channels)
            with f.if_(images[1]), self.batches((images[0], end)) as batch:
                self._batch(batch, channels)
            if self.targets > self.block:
                self._meet_if(self.by_images)  # before the next filters take the place

    def _meet_if(self, condition: Operand) -> None:
        with self.f.if_(condition):
            self.meet()

    def _filters(self, channels: Block) -> None:
        f, (rows, columns) = self.f, self.s.kernel
        window = rows * columns * ELEMENT_BYTES
        source_bytes, target_bytes = window, self.channels * window
        if not self.is_forward:
            source_bytes, target_bytes = self.targets * window, window
        form = spread(self.maths, self.filter_places(self.u_bytes), is_filter=True)
        own = self.share(channels[1], PANEL, is_divided=self.by_images)
        with self.fours(own) as (first, count):
            at = f.local(self.b + (channels[0] + first) * target_bytes)
            panel = op("i32.shr_u", first, 3) * (self.channels * PANEL)
            to = f.local(self.u + (panel + op("i32.and", first, LANES)) * ELEMENT_BYTES)
            with f.counted(i32(self.channels)):
                self.filters_to_spectra(at, target_bytes, count, self.filter)
                f.perform(f.call(form, self.filter, to))
                f.increment(at, source_bytes)
                f.increment(to, PANEL * ELEMENT_BYTES)
        self._meet_if(self.by_images)

    def _batch(self, batch: tuple[Block, Block], channels: Block) -> None:
        sources = self.share(i32(self.channels), LANES, is_divided=self.by_channels)
        places = self.places(self.pitch * ELEMENT_BYTES, self.v_bytes)
        self.spread_data(batch, sources, self.channels, self.a, self.v, places, self.pitch)
        self._meet_if(self.by_channels)
        with self.f.if_(channels[1]):
            self._multiply(self.rows_of(batch), channels)
            self._store(batch, channels)
        self._meet_if(self.by_channels)  # before the next tiles take the place

    def _multiply(self, rows: Operand, channels: Block) -> None:
        f, width, row = self.f, PANEL * ELEMENT_BYTES, self.pitch * ELEMENT_BYTES
        panels = f.local(op("i32.shr_u", channels[1] + (PANEL - 1), 3))
        product = splat_block(self.maths, row)
        v, u, m = f.local(self.v), f.local(self.u), f.local(self.m)
        most = equal_block(self.channels, BLOCK_K)
        with f.counted(i32(self.products)):
            for k in range(0, self.channels, most):
                f.perform(f.call(
                    product, v + k * ELEMENT_BYTES, u + k * width, m, rows, panels,
                    min(most, self.channels - k), row, ELEMENT_BYTES, self.channels * width, width,
                    self.block * ELEMENT_BYTES, int(k > 0),
                ))  # fmt: skip
            f.increment(v, self.v_bytes)
            f.increment(u, self.u_bytes)
            f.increment(m, self.m_bytes)

    def _store(self, batch: tuple[Block, Block], channels: Block) -> None:
        f, x = self.f, self.unit.tiling.x
        places = self.places(self.block * ELEMENT_BYTES, self.m_bytes)
        form = collect(self.maths, places)
        with self.units_of(batch) as own:
            with self.fours((i32(0), channels[1])) as (first, _):
                at = self.m + (own.matrix_row * self.block + first) * ELEMENT_BYTES
                f.perform(f.call(form, at, self.spectra))
                self.transform_columns(self.spectra, is_inverse=True)
                to = f.local(self.sums + first * self.plane_bytes)
                row_bytes = x.outputs * ELEMENT_BYTES
                self.from_spectra(self.spectra, to, self.unit.rows, x.outputs, row_bytes, 1.0)
            self.store_image(self.epilogue, own.image, channels, own.rows, own.columns)


class Weights(DenseEmitter):
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
        f, s = self.f, self.s
        self.prepare()
        self.clear(self.filter, self.unit.filter_bytes)
        own = self.share(i32(s.out_channels))
        most = op("i32.div_u", self.threads + (s.out_channels - 1), self.threads)
        with self.blocks_of_channels(own, most, self.block) as channels:
            adds = f.local(i32(0))
            with self.batches((i32(0), self.images)) as batch:
                self._transform(batch, channels)
                self.meet()
                with f.if_(channels[1]):
                    self._multiply(self.rows_of(batch), channels, adds)
                self.meet()  # before the next tiles take the place
                f.set(adds, i32(1))
            with f.if_(channels[1]):
                self._finish(channels)

    def _transform(self, batch: tuple[Block, Block], channels: Block) -> None:
        f, s, u = self.f, self.s, self.unit
        sources, own_batch, v = (i32(0), i32(s.in_channels)), batch, self.v
        has_units = self.group.images * self.group.units > 1
        if s.in_channels < FEW_CHANNELS and has_units:
            own_batch, before = self.share_of_units(batch)
            v = f.local(v + before * (self.pitch * ELEMENT_BYTES))
        else:
            sources = self.share(i32(s.in_channels), LANES)
        places = self.places(self.pitch * ELEMENT_BYTES, self.v_bytes)
        self.spread_data(own_batch, sources, s.in_channels, self.b, v, places, self.pitch)
        places = self.places(self.block * ELEMENT_BYTES, self.z_bytes)
        form = spread(self.maths, places, is_filter=True)
        with self.units_of(batch) as own, self.fours((i32(0), channels[1])) as (first, count):
            channel = own.image * s.out_channels + channels[0] + first
            at = f.local(self.of_channel(self.a, channel, u.results))
            place = (own.rows[0], own.columns[0])
            self.to_spectra(u.errors, at, count, place, self.spectra, 0)
            self.transform_columns(self.spectra, is_inverse=False)
            to = self.z + (own.matrix_row * self.block + first) * ELEMENT_BYTES
            f.perform(f.call(form, self.spectra, to))

    def _multiply(self, rows: Operand, channels: Block, adds: Operand) -> None:
        f, panels = self.f, self.pitch // PANEL
        product = splat_block(self.maths, ELEMENT_BYTES)
        z, v, p = f.local(self.z), f.local(self.v), f.local(self.p)
        row = self.pitch * ELEMENT_BYTES
        with f.counted(i32(self.products)):
            f.perform(f.call(
                product, z, v, p, channels[1], panels, rows, ELEMENT_BYTES,
                self.block * ELEMENT_BYTES, PANEL * ELEMENT_BYTES, row, row, adds,
            ))  # fmt: skip
            f.increment(z, self.z_bytes)
            f.increment(v, self.v_bytes)
            f.increment(p, self.p_bytes)

    def _finish(self, channels: Block) -> None:
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

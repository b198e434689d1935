"""Depthwise convolutions by Fourier transforms, and their gradients; four channels at a time.

    forward, input_grad    results = back(there(source) · conjugate of there(filter))
    weight_grad            sums   += there(x) · conjugate of there(g), and back after all images

Cross-correlations, tile by tile; the filter of an input gradient is turned by half a turn.  Threads
divide the channels, or the images where channels are few.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Operand, i32, op
from hearth.codegen.wasm.butterflies import COMPLEX_BYTES
from hearth.codegen.wasm.epilogue import Epilogue
from hearth.codegen.wasm.fourier_products import add_products, filter_rows
from hearth.codegen.wasm.fourier_tiling import Tiling
from hearth.codegen.wasm.fourier_transforms import filter_columns
from hearth.codegen.wasm.fourier_units import FourierEmitter, Place, Unit
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.strands import LANES
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.kernel import ConvTemplate, Kernel

MANY_CHANNELS = 16  # for each thread: then threads divide them
MANY_TILES = 64


class DepthwiseEmitter(FourierEmitter):
    """Up to four channels after the other."""

    def emit(self) -> None:
        f = self.f
        has_many = op("i32.ge_u", i32(self.s.groups), self.threads * MANY_CHANNELS)
        by_channels = op("i32.or", self.divides_parts(), has_many)
        by_channels = f.local(i32(1) if self.t.kind == "weight_grad" else by_channels)
        images = self.share(self.images, is_divided=op("i32.eqz", by_channels))
        channels = self.share(i32(self.s.groups), LANES, is_divided=by_channels)
        for _, count in (images, channels):
            f.return_if(op("i32.eqz", count))
        self.prepare()
        end = f.local(channels[0] + channels[1])
        with blocks(f, (channels[0], end), LANES, is_single=False) as own:
            self.four(images, own)

    def four(self, images: Block, channels: Block) -> None:
        """Everything of up to four channels."""
        raise NotImplementedError


class Images(DepthwiseEmitter):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        unit = Unit(tiling, s.kernel, t.kind == "input_grad", MANY_TILES)
        plane_bytes = unit.steps[0] * unit.steps[1] * ELEMENT_BYTES
        own = [LANES * plane_bytes, unit.filter_bytes]
        super().__init__(target, kernel, t, s, unit, plane_bytes, own)
        (self.filters,) = self.own
        self.epilogue = self.image_epilogue(kernel, LANES)

    def four(self, images: Block, channels: Block) -> None:
        f, s, u = self.f, self.s, self.unit
        window = self.of_channel(i32(0), i32(1), s.kernel).constant
        assert window is not None
        self.clear(self.filters, u.filter_bytes)
        filters = self.of_channel(self.b, channels[0], s.kernel)
        self.filters_to_spectra(filters, window, channels[1], self.filters)
        end = f.local(images[0] + images[1])
        with blocks(f, (images[0], end), 1, is_single=False) as (image, _):
            channel = image * s.groups + channels[0]
            source = f.local(self.of_channel(self.a, channel, u.sources))
            with self.units_of_image() as (rows, columns):
                place = self.data_place((rows[0], columns[0]))
                self.to_spectra(u.data, source, channels[1], place, self.spectra, u.top)
                self._filter()
                x = u.tiling.x
                row_bytes = x.outputs * ELEMENT_BYTES
                self.from_spectra(self.spectra, self.sums, u.rows, x.outputs, row_bytes, 1.0)
                self.store_image(self.epilogue, image, channels, rows, columns)

    def _filter(self) -> None:
        f, u = self.f, self.unit
        if u.strips is not None:
            form = filter_columns(self.maths, u.strips)
            f.perform(f.call(form, self.spectra, self.filters, self.work, self.y_roots))
        else:
            product = filter_rows(self.maths, u.tiling.frequencies)
            f.perform(f.call(product, self.spectra, self.filters, u.tiles))


class Weights(DepthwiseEmitter):
    """Weight gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        unit = Unit(tiling, s.kernel, False, MANY_TILES)
        plane_bytes = s.kernel[0] * s.kernel[1] * ELEMENT_BYTES
        own = [LANES * plane_bytes, unit.filter_bytes, unit.spectra_bytes]
        super().__init__(target, kernel, t, s, unit, plane_bytes, own)
        self.totals, self.errors = self.own
        plane = plane_bytes // ELEMENT_BYTES
        where = self.weight_index(kernel, (plane, 0))
        self.epilogue = Epilogue.of(self.maths, kernel, where, Dim.of(LANES * plane), (0,))

    def prepare(self) -> None:
        super().prepare()
        self.clear(self.errors, self.unit.spectra_bytes)

    def four(self, images: Block, channels: Block) -> None:
        f, s, u = self.f, self.s, self.unit
        self.clear(self.totals, u.filter_bytes)
        end = f.local(images[0] + images[1])
        with blocks(f, (images[0], end), 1, is_single=False) as (image, _):
            channel = f.local(image * s.groups + channels[0])
            x = f.local(self.of_channel(self.b, channel, u.sources))
            g = f.local(self.of_channel(self.a, channel, u.results))
            with self.units_of_image() as ((row, _), (column, _)):
                self._add(x, g, channels[1], (row, column))
        self.transform_columns(self.totals, is_inverse=True)
        self.clear(self.sums, LANES * self.plane_bytes)
        self.taps_from_spectra(self.totals, self.sums)
        origin = self.sums - channels[0] * self.plane_bytes
        ranges = [(channels[0], channels[0] + channels[1])]
        self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _add(self, x: Operand, g: Operand, count: Operand, place: Place) -> None:
        f, u = self.f, self.unit
        self.to_spectra(u.data, x, count, self.data_place(place), self.spectra, u.top)
        self.transform_columns(self.spectra, is_inverse=False)
        self.to_spectra(u.errors, g, count, place, self.errors, 0)
        self.transform_columns(self.errors, is_inverse=False)
        elements = u.tiling.frequencies
        if u.strips is not None:
            elements = u.strips.size * u.row_bytes // COMPLEX_BYTES
        product = add_products(self.maths, elements)
        f.perform(f.call(product, self.spectra, self.errors, self.totals, u.tiles))

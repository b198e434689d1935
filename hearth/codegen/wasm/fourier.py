"""Depthwise convolutions by Fourier transforms, and their gradients; four channels at a time.

    forward, input_grad    results = back(there(source) · conjugate of there(filter))
    weight_grad            sums   += there(x) · conjugate of there(g), and back after all images

Cross-correlations, tile by tile; the filter of an input gradient is turned by half a turn.  Threads
divide the channels, or the images where channels are few.  No image shares a transform with
another, so that none depends on its neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hearth.codegen.wasm.assembler import Operand, i32, op
from hearth.codegen.wasm.butterflies import COMPLEX_BYTES, ROOT_BYTES, VECTOR_BYTES, fill_roots
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.fourier_tiling import Tiling
from hearth.codegen.wasm.fourier_transforms import (
    UNSCALED,
    Rows,
    Strips,
    add_products,
    filter_columns,
    filter_rows,
    finish_rows,
    transform_columns,
    transform_rows,
)
from hearth.codegen.wasm.fourier_windows import (
    Taps,
    Window,
    clear_vectors,
    copy_filter,
    copy_window,
)
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.planes import Pair
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.winograd_tiling import equal_part, round_up
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.index import Index
from hearth.ir.kernel import ConvTemplate, Kernel

STRIP_BYTES = 1 << 13  # of the columns that are transformed at a time
ROWS_BYTES = 1 << 13  # of the complex rows that are transformed at a time
LOOP_PAIRS = 0.5  # the pairs of rows that are transformed while their number changes nothing
CHUNK_BYTES = 1 << 16  # of the spectra of tiles of one dimension
MANY_CHANNELS = 16  # for each thread: then threads divide them
Place = tuple[Operand, Operand]  # a row and a column


class FourierEmitter(ConvEmitter):
    """What the passes share: how a tile becomes its spectrum.

    A unit is a tile, or some tiles of one dimension; its spectra are rows of frequencies.
    """

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling, *, has_errors: bool) -> None:  # fmt: skip
        self.s, self.tiling = s, tiling
        y, x = tiling.y, tiling.x
        self.strips = Strips.of(y.size, tiling.frequencies, STRIP_BYTES) if y else None
        self.row_bytes = self.strips.row_bytes if self.strips else (
            tiling.frequencies * COMPLEX_BYTES
        )  # fmt: skip
        most = max(2, CHUNK_BYTES // self.row_bytes)
        self.units = 1 if y else round_up(equal_part(x.count, most), 2)  # tiles
        self.steps = (y.outputs, x.outputs) if y else (1, self.units * x.outputs)
        self.extents = (y.result if y else 1, x.result)
        self.sources = (y.source if y else 1, x.source)
        self.top = y.data[0] if y else 0  # the first row of spectra with data
        self.window = self._window(self.sources, y.data[1] if y else self.units, x.size)
        self.taps = Taps(
            (s.kernel if y else (1, max(s.kernel))), (y.first_tap if y else 0, x.first_tap),
            (y.taps if y else 1, x.taps), t.kind == "input_grad",
            self.padded(y.taps if y else 1), x.size,
        )  # fmt: skip
        planes = LANES * max(self.window.plane_bytes, self.taps.plane_bytes)
        slack = 2 * self.most_pairs
        spectra = ((y.size if y else self.units) + slack) * self.row_bytes
        filters = (y.size if y else 1) * self.row_bytes + slack * self.row_bytes
        work = 2 * x.size * COMPLEX_BYTES * self.most_pairs
        if self.strips is not None:
            work = max(work, 2 * self.strips.size * self.strips.strip_bytes)
        sums = LANES * self.plane_bytes
        super().__init__(target, kernel, t, [
            size // ELEMENT_BYTES for size in (
                sums, planes, spectra, filters, spectra * has_errors, work, x.size * ROOT_BYTES,
                y.size * ROOT_BYTES if y else 0,
            )
        ])  # fmt: skip
        (self.sums, self.copies, self.spectra, self.filters, self.errors, self.work, self.x_roots,
         self.y_roots) = self.region  # fmt: skip
        self.scale = 1 / (UNSCALED * tiling.size)

    @property
    def plane_bytes(self) -> int:
        """Of the sums of one channel."""
        raise NotImplementedError

    @property
    def most_pairs(self) -> int:
        """Of rows that are transformed at a time."""
        return max(1, ROWS_BYTES // (self.tiling.x.size * COMPLEX_BYTES))

    def pairs(self, rows: int) -> int:
        """How many pairs of some rows to transform at a time: few must be left over."""
        count = -(-rows // 2)
        return min(range(1, min(count, self.most_pairs) + 1),
                   key=lambda n: -(-count // n) * (n + LOOP_PAIRS))  # fmt: skip

    def padded(self, rows: int) -> int:
        return round_up(rows, 2 * self.pairs(rows))

    def _window(self, extents: Pair, rows: int, columns: int) -> Window:
        """The data of a unit: rows of a tile, or tiles as rows."""
        x, is_tile = self.tiling.x, self.tiling.y is not None
        step = (1, 0) if is_tile else (0, x.outputs)
        return Window(extents, self.padded(rows), x.size, (rows, columns), step)

    def emit(self) -> None:
        f, y, x = self.f, self.tiling.y, self.tiling.x
        has_many = op("i32.ge_u", i32(self.s.groups), self.threads * MANY_CHANNELS)
        by_channels = op("i32.or", self.divides_parts(), has_many)
        by_channels = f.local(i32(1) if self.t.kind == "weight_grad" else by_channels)
        images = self.share(self.images, is_divided=op("i32.eqz", by_channels))
        channels = self.share(i32(self.s.groups), LANES, is_divided=by_channels)
        for _, count in (images, channels):
            f.return_if(op("i32.eqz", count))
        fill_roots(f, self.x_roots, x.size)
        if y is not None:
            fill_roots(f, self.y_roots, y.size)
        for region in (2, 3, 4):  # what no transform writes is calculated with, too
            vectors = self.regions[region] * ELEMENT_BYTES // VECTOR_BYTES
            clear_vectors(f, self.region[region], i32(vectors))
        end = f.local(channels[0] + channels[1])
        with blocks(f, (channels[0], end), LANES, is_single=False) as own:
            self.four(images, own)

    def four(self, images: Block, channels: Block) -> None:
        """Everything of up to four channels."""
        raise NotImplementedError

    @contextmanager
    def units_of_image(self) -> Iterator[tuple[Block, Block]]:
        """The rows and the columns of results of each unit."""
        rows, columns = ((i32(0), i32(extent)) for extent in self.extents)
        is_single = [step >= extent for step, extent in zip(self.steps, self.extents, strict=True)]
        with (
            blocks(self.f, rows, self.steps[0], is_single=is_single[0]) as own_rows,
            blocks(self.f, columns, self.steps[1], is_single=is_single[1]) as own_columns,
        ):
            yield own_rows, own_columns

    def of_channel(self, source: Operand, channel: Operand, extents: Pair) -> Operand:
        """The address of a channel of an image, or of as many in a row."""
        return source + channel * (extents[0] * extents[1] * ELEMENT_BYTES)

    def data_place(self, place: Place) -> Place:
        """Where the data of a unit begin in the source, maybe outside."""
        y, x = self.tiling.y, self.tiling.x
        row = place[0] - (y.padding - self.top) if y else i32(0)
        return row, place[1] - x.padding

    def to_spectra(self, w: Window, source: Operand, count: Operand, place: Place,
                   spectra: Operand, first: int) -> None:  # fmt: skip
        """A window of four channels as rows of half spectra, from a row of these on."""
        f = self.f
        if self.strips is not None:  # columns are transformed in place
            for begin, end in ((0, first), (first + w.rows, self.strips.size)):
                vectors = max(0, end - begin) * self.row_bytes // VECTOR_BYTES
                clear_vectors(f, spectra + begin * self.row_bytes, i32(vectors))
        f.perform(f.call(copy_window(self.maths, w), self.copies, source, count, *place))
        self._transform_rows(w.used[0], w.plane_bytes, spectra + first * self.row_bytes)

    def filters_to_spectra(self, channels: Block) -> None:
        f, t = self.f, self.taps
        source = self.of_channel(self.b, channels[0], self.s.kernel)
        f.perform(f.call(copy_filter(self.maths, t, self.scale), self.copies, source, channels[1]))
        if self.strips is not None:
            rest = (self.strips.size - t.rows) * self.row_bytes // VECTOR_BYTES
            clear_vectors(f, self.filters + t.rows * self.row_bytes, i32(max(0, rest)))
        self._transform_rows(t.counts[0], t.plane_bytes, self.filters)
        self.transform_columns(self.filters, is_inverse=False)

    def _transform_rows(self, rows: int, plane_bytes: int, to: Operand) -> None:
        f, size = self.f, self.tiling.x.size
        pairs = self.pairs(rows)
        r = Rows(size, pairs, plane_bytes, size * ELEMENT_BYTES, self.row_bytes)
        form, count = transform_rows(self.maths, r), self.padded(rows) // (2 * pairs)
        f.perform(f.call(form, self.copies, to, self.work, self.x_roots, count))

    def transform_columns(self, spectra: Operand, *, is_inverse: bool) -> None:
        if self.strips is not None:
            form = transform_columns(self.maths, self.strips, is_inverse=is_inverse)
            self.f.perform(self.f.call(form, spectra, self.work, self.y_roots))

    def from_spectra(self, spectra: Operand, to: Operand, rows: int, columns: int,
                     row_bytes: int, scale: float) -> None:  # fmt: skip
        f = self.f
        size, pairs = self.tiling.x.size, self.pairs(rows)
        r = Rows(size, pairs, self.plane_bytes, row_bytes, self.row_bytes, columns)
        form = finish_rows(self.maths, r, scale)
        f.perform(f.call(form, spectra, to, self.work, self.x_roots, rows))


class Images(FourierEmitter):
    """Forward and input gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        super().__init__(target, kernel, t, s, tiling, has_errors=False)
        axes = (2, 3) if tiling.y else (None, 2)
        steps = (self.plane_bytes // ELEMENT_BYTES, self.steps[1], 1)
        where = sum((axis_of(kernel, a) * step for a, step in zip((1, *axes), steps, strict=True)
                     if a is not None), Index())  # fmt: skip
        self.blocked = [0, 1, *(axis for axis in axes if axis is not None)]
        size = Dim.of(LANES * self.plane_bytes // ELEMENT_BYTES)
        self.epilogue = Epilogue.of(self.maths, kernel, where, size, self.blocked)

    @property
    def plane_bytes(self) -> int:
        return self.steps[0] * self.steps[1] * ELEMENT_BYTES

    def four(self, images: Block, channels: Block) -> None:
        f, s = self.f, self.s
        self.filters_to_spectra(channels)
        end = f.local(images[0] + images[1])
        with blocks(f, (images[0], end), 1, is_single=False) as (image, _):
            channel = image * s.groups + channels[0]
            source = f.local(self.of_channel(self.a, channel, self.sources))
            with self.units_of_image() as ((row, height), (column, width)):
                self._unit(source, channels[1], (row, column))
                ranges = [(image, image + 1), (channels[0], channels[0] + channels[1])]
                if self.tiling.y is not None:
                    ranges.append((row, row + height))
                ranges.append((column, column + width))
                before = channels[0] * (self.plane_bytes // ELEMENT_BYTES)
                before = before + row * self.steps[1] + column
                origin = self.sums - before * ELEMENT_BYTES
                self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _unit(self, source: Operand, count: Operand, place: Place) -> None:
        f, x = self.f, self.tiling.x
        self.to_spectra(self.window, source, count, self.data_place(place), self.spectra, self.top)
        if self.strips is not None:
            form = filter_columns(self.maths, self.strips)
            f.perform(f.call(form, self.spectra, self.filters, self.work, self.y_roots))
        else:
            product = filter_rows(self.maths, self.tiling.frequencies)
            f.perform(f.call(product, self.spectra, self.filters, self.units))
        rows = self.steps[0] if self.tiling.y else self.units
        row_bytes = x.outputs * ELEMENT_BYTES
        self.from_spectra(self.spectra, self.sums, rows, x.outputs, row_bytes, 1.0)


class Weights(FourierEmitter):
    """Weight gradient."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d,
                 tiling: Tiling) -> None:  # fmt: skip
        super().__init__(target, kernel, t, s, tiling, has_errors=True)
        y, x = tiling.y, tiling.x
        self.error_window = self._window(self.extents, y.outputs if y else self.units, x.outputs)
        where = axis_of(kernel, 0) * (self.plane_bytes // ELEMENT_BYTES)
        for axis, step in zip(range(2, len(kernel.axes)), (self.taps.window[1], 1)[-len(t.kernel):],
                              strict=True):  # fmt: skip
            where = where + axis_of(kernel, axis) * step
        size = Dim.of(LANES * self.plane_bytes // ELEMENT_BYTES)
        self.epilogue = Epilogue.of(self.maths, kernel, where, size, (0,))

    @property
    def plane_bytes(self) -> int:
        return self.taps.window[0] * self.taps.window[1] * ELEMENT_BYTES

    def four(self, images: Block, channels: Block) -> None:
        f, s = self.f, self.s
        vectors = self.regions[3] * ELEMENT_BYTES // VECTOR_BYTES
        clear_vectors(f, self.filters, i32(vectors))
        end = f.local(images[0] + images[1])
        with blocks(f, (images[0], end), 1, is_single=False) as (image, _):
            channel = f.local(image * s.groups + channels[0])
            x = f.local(self.of_channel(self.b, channel, self.sources))
            g = f.local(self.of_channel(self.a, channel, self.extents))
            with self.units_of_image() as ((row, _), (column, _)):
                self._unit(x, g, channels[1], (row, column))
        self.transform_columns(self.filters, is_inverse=True)
        clear_vectors(f, self.sums, i32(self.regions[0] * ELEMENT_BYTES // VECTOR_BYTES))
        t = self.taps
        first = (t.first[0] * t.window[1] + t.first[1]) * ELEMENT_BYTES
        row_bytes = t.window[1] * ELEMENT_BYTES
        self.from_spectra(self.filters, self.sums + first, *t.counts, row_bytes, self.scale)
        origin = self.sums - channels[0] * self.plane_bytes
        ranges = [(channels[0], channels[0] + channels[1])]
        self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _unit(self, x: Operand, g: Operand, count: Operand, place: Place) -> None:
        f = self.f
        data = self.data_place(place)
        self.to_spectra(self.window, x, count, data, self.spectra, self.top)
        self.transform_columns(self.spectra, is_inverse=False)
        self.to_spectra(self.error_window, g, count, place, self.errors, 0)
        self.transform_columns(self.errors, is_inverse=False)
        rows, elements = self.units, self.tiling.frequencies
        if self.strips is not None:
            elements = self.strips.size * self.row_bytes // COMPLEX_BYTES
        product = add_products(self.maths, elements)
        f.perform(f.call(product, self.spectra, self.errors, self.filters, rows))

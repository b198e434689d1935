"""A kernel with a convolution by Fourier transforms: the way of a tile to its spectrum and back.

No image shares a transform with another, so that none depends on its neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from hearth.codegen.wasm.assembler import Operand, i32
from hearth.codegen.wasm.butterflies import COMPLEX_BYTES, ROOT_BYTES, fill_roots
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.fourier_tiling import Tiling
from hearth.codegen.wasm.fourier_transforms import (
    UNSCALED,
    Rows,
    Strips,
    finish_rows,
    transform_columns,
    transform_rows,
)
from hearth.codegen.wasm.fourier_windows import (
    Taps,
    Window,
    copy_filter,
    copy_window,
)
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.planes import Pair, clear
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
Place = tuple[Operand, Operand]  # a row and a column


@dataclass(frozen=True)
class Unit:
    """A tile, or some tiles of one dimension; its spectra are rows of frequencies."""

    tiling: Tiling
    kernel: Pair
    is_turned: bool  # the filter, by half a turn
    most_tiles: int  # of one dimension

    @cached_property
    def strips(self) -> Strips | None:
        y = self.tiling.y
        return Strips.of(y.size, self.tiling.frequencies, STRIP_BYTES) if y else None

    @property
    def row_bytes(self) -> int:
        """Of a row of spectra."""
        return self.strips.row_bytes if self.strips else self.tiling.frequencies * COMPLEX_BYTES

    @cached_property
    def tiles(self) -> int:
        if self.tiling.y is not None:
            return 1
        most = min(self.most_tiles, CHUNK_BYTES // self.row_bytes)
        return round_up(equal_part(self.tiling.x.count, max(2, most)), 2)

    @property
    def steps(self) -> Pair:
        """Rows and columns of results."""
        y, x = self.tiling.y, self.tiling.x
        return (y.outputs, x.outputs) if y else (1, self.tiles * x.outputs)

    @property
    def rows(self) -> int:
        """Of results: of a tile, or of tiles."""
        return self.tiling.y.outputs if self.tiling.y else self.tiles

    @property
    def sources(self) -> Pair:
        """Of a whole image."""
        return (self.tiling.y.source if self.tiling.y else 1, self.tiling.x.source)

    @property
    def results(self) -> Pair:
        """Of a whole image."""
        return (self.tiling.y.result if self.tiling.y else 1, self.tiling.x.result)

    @property
    def top(self) -> int:
        """The first row of spectra with data."""
        return self.tiling.y.data[0] if self.tiling.y else 0

    @cached_property
    def data(self) -> Window:
        y, x = self.tiling.y, self.tiling.x
        return self._window(self.sources, y.data[1] if y else self.tiles, x.size)

    @cached_property
    def errors(self) -> Window:
        """Of results, zeros behind those of the tile."""
        return self._window(self.results, self.rows, self.tiling.x.outputs)

    def _window(self, extents: Pair, rows: int, columns: int) -> Window:
        x, is_tile = self.tiling.x, self.tiling.y is not None
        step = (1, 0) if is_tile else (0, x.outputs)
        return Window(extents, self.padded(rows), x.size, (rows, columns), step)

    @cached_property
    def taps(self) -> Taps:
        y, x = self.tiling.y, self.tiling.x
        window = self.kernel if y else (1, max(self.kernel))
        counts = (y.taps if y else 1, x.taps)
        first = (y.first_tap if y else 0, x.first_tap)
        return Taps(window, first, counts, self.is_turned, self.padded(counts[0]), x.size)

    @property
    def spectra_bytes(self) -> int:
        """With rows that are transformed and not wanted."""
        return self._rows_bytes(self.strips.size if self.strips else self.tiles)

    @property
    def filter_bytes(self) -> int:
        """The same of filters, or their gradients."""
        return self._rows_bytes(self.strips.size if self.strips else 1)

    def _rows_bytes(self, rows: int) -> int:
        return (rows + 2 * self.most_pairs) * self.row_bytes

    @property
    def region_bytes(self) -> list[int]:
        """For copies, spectra, work, and roots along x and y."""
        y, x = self.tiling.y, self.tiling.x
        copies = max(w.plane_bytes for w in (self.data, self.errors, self.taps))
        work = 2 * x.size * COMPLEX_BYTES * self.most_pairs
        if self.strips is not None:
            work = max(work, 2 * self.strips.size * self.strips.strip_bytes)
        roots = [x.size * ROOT_BYTES, y.size * ROOT_BYTES if y else 0]
        return [LANES * copies, self.spectra_bytes, work, *roots]

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


class FourierEmitter(ConvEmitter):
    """What the passes share: how a unit becomes its spectra, and back."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d, unit: Unit,
                 plane_bytes: int, own_bytes: Sequence[int]) -> None:  # fmt: skip
        """With the size of sums of one channel, and regions of its own, the first for sums."""
        sizes = [*unit.region_bytes, *own_bytes]
        super().__init__(target, kernel, t, [size // ELEMENT_BYTES for size in sizes])
        self.s, self.unit, self.plane_bytes = s, unit, plane_bytes
        self.copies, self.spectra, self.work, self.x_roots, self.y_roots, self.sums, *self.own = (
            self.region
        )
        self.scale = 1 / (UNSCALED * unit.tiling.size)

    def prepare(self) -> None:
        """Fills the tables; what no transform writes is calculated with, too."""
        y, x = self.unit.tiling.y, self.unit.tiling.x
        fill_roots(self.f, self.x_roots, x.size)
        if y is not None:
            fill_roots(self.f, self.y_roots, y.size)
        self.clear(self.spectra, self.unit.spectra_bytes)

    def clear(self, at: Operand, size_bytes: int) -> None:
        clear(self.f, at, size_bytes // ELEMENT_BYTES)

    @contextmanager
    def units_of_image(self) -> Iterator[tuple[Block, Block]]:
        """The rows and the columns of results of each unit."""
        axes = zip(self.unit.results, self.unit.steps, strict=True)
        rows, columns = (
            blocks(self.f, (i32(0), i32(extent)), step, is_single=step >= extent)
            for extent, step in axes
        )
        with rows as own_rows, columns as own_columns:
            yield own_rows, own_columns

    def of_channel(self, source: Operand, channel: Operand, extents: Pair) -> Operand:
        """The address of a channel of an image, or of as many in a row."""
        return source + channel * (extents[0] * extents[1] * ELEMENT_BYTES)

    def data_place(self, place: Place) -> Place:
        """Where the data of a unit begin in the source, maybe outside."""
        y, x = self.unit.tiling.y, self.unit.tiling.x
        row = place[0] - (y.padding - self.unit.top) if y else i32(0)
        return row, place[1] - x.padding

    def to_spectra(self, w: Window, source: Operand, count: Operand, place: Place,
                   spectra: Operand, first: int) -> None:  # fmt: skip
        """A window of four channels as rows of half spectra, from a row of these on."""
        f, row_bytes, strips = self.f, self.unit.row_bytes, self.unit.strips
        if strips is not None:  # columns are transformed in place
            for begin, end in ((0, first), (first + w.rows, strips.size)):
                self.clear(spectra + begin * row_bytes, max(0, end - begin) * row_bytes)
        f.perform(f.call(copy_window(self.maths, w), self.copies, source, count, *place))
        self._transform_rows(w.used[0], w.plane_bytes, spectra + first * row_bytes)

    def filters_to_spectra(self, source: Operand, step_bytes: int, count: Operand,
                           spectra: Operand) -> None:  # fmt: skip
        """Up to four filters that begin so many bytes apart."""
        f, t, strips = self.f, self.unit.taps, self.unit.strips
        form = copy_filter(self.maths, t, step_bytes, self.scale)
        f.perform(f.call(form, self.copies, source, count))
        if strips is not None:
            rest = max(0, strips.size - t.rows) * strips.row_bytes
            self.clear(spectra + t.rows * strips.row_bytes, rest)
        self._transform_rows(t.counts[0], t.plane_bytes, spectra)
        self.transform_columns(spectra, is_inverse=False)

    def _transform_rows(self, rows: int, plane_bytes: int, to: Operand) -> None:
        f, size, pairs = self.f, self.unit.tiling.x.size, self.unit.pairs(rows)
        r = Rows(size, pairs, plane_bytes, size * ELEMENT_BYTES, self.unit.row_bytes)
        form, count = transform_rows(self.maths, r), self.unit.padded(rows) // (2 * pairs)
        f.perform(f.call(form, self.copies, to, self.work, self.x_roots, count))

    def transform_columns(self, spectra: Operand, *, is_inverse: bool) -> None:
        if self.unit.strips is not None:
            form = transform_columns(self.maths, self.unit.strips, is_inverse=is_inverse)
            self.f.perform(self.f.call(form, spectra, self.work, self.y_roots))

    def from_spectra(self, spectra: Operand, to: Operand, rows: int, columns: int,
                     row_bytes: int, scale: float) -> None:  # fmt: skip
        f, size, pairs = self.f, self.unit.tiling.x.size, self.unit.pairs(rows)
        r = Rows(size, pairs, self.plane_bytes, row_bytes, self.unit.row_bytes, columns)
        form = finish_rows(self.maths, r, scale)
        f.perform(f.call(form, spectra, to, self.work, self.x_roots, rows))

    def image_epilogue(self, kernel: Kernel, channels: int) -> Epilogue:
        """Of sums of a unit of some channels."""
        axes = (2, 3) if self.unit.tiling.y else (None, 2)
        steps = (self.plane_bytes // ELEMENT_BYTES, self.unit.steps[1], 1)
        where = sum((axis_of(kernel, a) * step for a, step in zip((1, *axes), steps, strict=True)
                     if a is not None), Index())  # fmt: skip
        blocked = [0, 1, *(axis for axis in axes if axis is not None)]
        size = Dim.of(channels * self.plane_bytes // ELEMENT_BYTES)
        return Epilogue.of(self.maths, kernel, where, size, blocked)

    def store_image(self, epilogue: Epilogue, image: Operand, channels: Block, rows: Block,
                    columns: Block) -> None:  # fmt: skip
        """The sums of a unit of some channels of an image."""
        own = [(image, i32(1)), channels, columns]
        if self.unit.tiling.y is not None:
            own.insert(2, rows)
        before = channels[0] * (self.plane_bytes // ELEMENT_BYTES)
        before = before + rows[0] * self.unit.steps[1] + columns[0]
        ranges = [(first, first + count) for first, count in own]
        origin = self.sums - before * ELEMENT_BYTES
        epilogue.call(self.f, self.batch, ranges, self.pointers, origin)

    def weight_index(self, kernel: Kernel, steps: Pair) -> Index:
        """Where gradients of taps are, in planes of a pair of channels, which lie so apart."""
        own = [*steps, *(self.unit.taps.window[1], 1)[-len(self.t.kernel) :]]
        return sum((axis_of(kernel, axis) * step for axis, step in enumerate(own)), Index())

    def taps_from_spectra(self, spectra: Operand, to: Operand) -> None:
        """The gradients of four filters."""
        t = self.unit.taps
        first = (t.first[0] * t.window[1] + t.first[1]) * ELEMENT_BYTES
        row_bytes = t.window[1] * ELEMENT_BYTES
        self.from_spectra(spectra, to + first, *t.counts, row_bytes, self.scale)

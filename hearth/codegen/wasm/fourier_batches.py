"""Batches of tiles whose spectra are multiplied as matrices: their units, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Local, Operand, i32, op
from hearth.codegen.wasm.fourier_products import FACTORS, Places, spread
from hearth.codegen.wasm.fourier_tiling import Tiling
from hearth.codegen.wasm.fourier_units import FourierEmitter, Unit
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.transformed import (
    BLOCK_BYTES,
    LEAST_TILES,
    Blocking,
    Blocks,
    TransformedEmitter,
)
from hearth.codegen.wasm.winograd_tiling import equal_part
from hearth.ir.dtype import ELEMENT_BYTES

MANY_UNITS = 3  # of a batch in one dimension, so that threads can divide them


@dataclass(frozen=True)
class Batch:
    """The units whose spectra are multiplied at a time: of some images, or a part of one."""

    unit: Unit
    images: int
    units: int  # of an image

    @staticmethod
    def of(tiling: Tiling, kernel: tuple[int, int], is_turned: bool, bytes_per_tile: int) -> Batch:
        most = max(LEAST_TILES, BLOCK_BYTES // bytes_per_tile)
        unit = Unit(tiling, kernel, is_turned, most // MANY_UNITS)
        units = max(1, most // unit.tiles)
        whole = -(-tiling.tiles // unit.tiles)
        if units >= whole:
            return Batch(unit, units // whole, whole)
        return Batch(unit, 1, equal_part(whole, units))

    @property
    def whole(self) -> int:
        """Units of an image."""
        return -(-self.unit.tiling.tiles // self.unit.tiles)

    @property
    def rows(self) -> int:
        """Of the matrices."""
        return self.images * self.units * self.unit.tiles


@dataclass(frozen=True)
class Place:
    """A unit of a batch: of which image, the results that it has, its first row in matrices."""

    image: Local
    rows: Block
    columns: Block
    matrix_row: Local


class DenseEmitter(FourierEmitter, TransformedEmitter):
    """What the passes share: walking the units of a batch."""

    group: Batch

    @property
    def blocking(self) -> Blocking:
        b = self.group
        return Blocking(b.images, b.units, b.whole, self.unit.tiles)

    @property
    def products(self) -> int:
        return FACTORS * self.unit.tiling.points

    @contextmanager
    def units_of(self, batch: Blocks) -> Iterator[Place]:
        f, u = self.f, self.unit
        across = -(-u.results[1] // u.steps[1])
        image, row = f.local(batch[0][0]), f.local(i32(0))
        with f.counted(batch[0][1]):
            unit = f.local(batch[1][0])
            with f.counted(batch[1][1]):
                ranges = []
                for number, extent, step in zip(
                    (op("i32.div_u", unit, across), op("i32.rem_u", unit, across)),
                    u.results, u.steps, strict=True,
                ):  # fmt: skip
                    first = f.local(number * step)
                    ranges.append((first, f.smaller(i32(extent) - first, step)))
                yield Place(image, ranges[0], ranges[1], row)
                f.increment(unit, 1)
                f.increment(row, u.tiles)
            f.increment(image, 1)

    @contextmanager
    def fours(self, channels: Block) -> Iterator[Block]:
        """Up to four of the channels at a time; maybe there are none."""
        f = self.f
        end = f.local(channels[0] + channels[1])
        with f.if_(channels[1]), blocks(f, (channels[0], end), LANES, is_single=False) as own:
            yield own

    def places(self, matrix_bytes: int, product_bytes: int) -> Places:
        """Of a unit in matrices whose rows are so long."""
        u, frequencies = self.unit, self.unit.tiling.frequencies
        if u.strips is None:
            return Places(u.tiles, frequencies, u.row_bytes, matrix_bytes, product_bytes)
        return self.filter_places(product_bytes)

    def filter_places(self, product_bytes: int) -> Places:
        u, frequencies = self.unit, self.unit.tiling.frequencies
        rows, row_bytes = u.strips.size if u.strips else 1, FACTORS * frequencies * product_bytes
        return Places(rows, frequencies, u.row_bytes, row_bytes, product_bytes)

    def spread_data(self, batch: Blocks, channels: Block, all_channels: int,
                    source: Operand, to: Operand, places: Places, pitch: int) -> None:  # fmt: skip
        """The spectra of all units of some channels of the source."""
        f, u = self.f, self.unit
        form = spread(self.maths, places, is_filter=False)
        with self.units_of(batch) as own, self.fours(channels) as (first, count):
            at = self.of_channel(source, own.image * all_channels + first, u.sources)
            place = self.data_place((own.rows[0], own.columns[0]))
            self.to_spectra(u.data, f.local(at), count, place, self.spectra, u.top)
            self.transform_columns(self.spectra, is_inverse=False)
            target = to + (own.matrix_row * pitch + first) * ELEMENT_BYTES
            f.perform(f.call(form, self.spectra, target))

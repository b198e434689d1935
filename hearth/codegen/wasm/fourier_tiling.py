"""How a convolution by Fourier transforms divides images into tiles, and what that costs.

A tile of `size` elements gives `size - taps + 1` results (overlap-save), or all of an axis where
what wraps around its end meets nothing but padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hearth.codegen.wasm.butterflies import radices
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.strands import LANES

SIZES = [n for n in range(8, 1025, LANES) if radices(n) is not None]
LARGEST_SIDE = 128  # of a tile of two dimensions
# Cycles per complex element of four lanes.
PASS_CYCLES = {2: 2.5, 3: 3.3, 4: 3.4, 5: 4.3}
PACK_CYCLES = 6.4  # of a real row's elements into complex ones and parted, or joined and back
PRODUCT_CYCLES = {"forward": 1.9, "input_grad": 1.9, "weight_grad": 5.0}
TAP_CYCLES = 12  # of a tap of four filters
LINE_CYCLES = 1.6  # of one dimension, in those of two


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis; data and results of forward and backward passes alike."""

    source: int
    result: int
    padding: int  # may be negative
    first_tap: int  # taps that meet no data are left out
    taps: int
    size: int  # of a tile
    outputs: int
    count: int

    @property
    def data(self) -> tuple[int, int]:
        """Where the data of a tile begin and how many there are, the same for all tiles."""
        if self.count > 1:
            return 0, self.size
        first = max(self.padding, 0)
        return first, min(self.size, self.padding + self.source) - first


@dataclass(frozen=True)
class Tiling:
    """Without `y` tiles are rows of one dimension, and several are transformed at a time."""

    y: Axis | None
    x: Axis

    @property
    def frequencies(self) -> int:
        """Of a row: its spectrum is that of real numbers."""
        return self.x.size // 2 + 1

    @property
    def points(self) -> int:
        """Complex values of a transformed tile."""
        return self.frequencies * (self.y.size if self.y else 1)

    @property
    def size(self) -> int:
        return self.x.size * (self.y.size if self.y else 1)

    @property
    def tiles(self) -> int:
        """Of an image."""
        return self.x.count * (self.y.count if self.y else 1)

    @property
    def data_rows(self) -> int:
        return self.y.data[1] if self.y else 1

    @property
    def result_rows(self) -> int:
        return self.y.outputs if self.y else 1


@cache
def tiling(s: Shape2d, kind: str) -> Tiling | None:
    """The best tiles of a convolution, where there are any."""
    sources, results = (s.result, s.image) if kind == "input_grad" else (s.image, s.result)
    is_turned = kind == "input_grad"
    paddings = [k - 1 - p if is_turned else p for k, p in zip(s.kernel, s.padding, strict=True)]
    ys, xs = (list(_axes(*own)) for own in zip(sources, results, s.kernel, paddings, strict=True))
    if None in s.axes:
        lines = xs if s.axes[0] is None else ys
        tilings = [Tiling(None, line) for line in lines if line.size % 512]
    else:
        tilings = [Tiling(y, x) for y in ys for x in xs if max(y.size, x.size) <= LARGEST_SIDE]
    return min(tilings, key=lambda t: image_cycles(t, kind), default=None)


def _axes(source: int, result: int, window: int, padding: int) -> Iterator[Axis]:
    first = max(0, padding - result + 1)
    taps = min(window, padding + source) - first
    padding -= first
    if taps < 1:
        return
    for size in SIZES:
        is_whole = size >= result + taps - 1 or (
            padding > 0 and size >= max(source + padding, result + taps - 1 - padding)
        )
        outputs = result if is_whole else size - taps + 1
        if outputs > 0:
            count = -(-result // outputs)
            yield Axis(source, result, padding, first, taps, size, outputs, count)
        if is_whole:
            return


def image_cycles(t: Tiling, kind: str) -> float:
    """Of four channels of one image, with a filter for each."""
    there_and_back = sum(_cycles(t, rows) for rows in (t.data_rows, t.result_rows))
    return t.tiles * (there_and_back + PRODUCT_CYCLES[kind] * t.points)


def filter_cycles(t: Tiling) -> float:
    """Of four filters, there, or their gradients, back."""
    taps = t.y.taps if t.y else 1
    return _cycles(t, taps) + TAP_CYCLES * taps * t.x.taps


def _cycles(t: Tiling, rows: int) -> float:
    """Of a transform of a tile of which some rows are wanted."""
    row = t.x.size * (size_cycles(t.x.size) + PACK_CYCLES)
    if t.y is None:
        return LINE_CYCLES * rows / 2 * row
    return math.ceil(rows / 2) * row + t.points * size_cycles(t.y.size)


@cache
def size_cycles(size: int) -> float:
    """Of a transform, per element."""
    factors = radices(size)
    assert factors is not None
    return sum(PASS_CYCLES[radix] for radix in factors)

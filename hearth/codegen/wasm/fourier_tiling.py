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
from hearth.codegen.wasm.fourier_products import FACTORS
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.transformed import LEAST_TILES
from hearth.codegen.wasm.winograd_tiling import equal_part, round_up
from hearth.ir.dtype import ELEMENT_BYTES

SIZES = [n for n in range(8, 1025, LANES) if radices(n) is not None]
LARGEST_SIDE, LARGEST_DENSE_SIDE = 128, 64  # of a tile of two dimensions
# Cycles per complex element of four lanes.
PASS_CYCLES = {2: 2.5, 3: 3.3, 4: 3.4, 5: 4.3}
PACK_CYCLES = 6.4  # of a real row's elements into complex ones and parted, or joined and back
PRODUCT_CYCLES = {"forward": 1.9, "input_grad": 1.9, "weight_grad": 5.0}
TAP_CYCLES = 12  # of a tap of four filters
LINE_CYCLES = 1.6  # of one dimension, in those of two
STATIONARY_BYTES = 8 << 20  # of what stays over all tiles: filters, or sums of their gradients
LARGEST_BYTES = 24 << 20  # of all operands of a block of target channels
SPREAD_CYCLES = 8.0  # of a complex value as three numbers of a matrix, or back
PRODUCT_SUMS = 3  # of a sum of a product, beyond its terms
CYCLE_WORK = 7.8  # multiply-adds of a cycle of matrix products
TYPICAL_IMAGES = 8
# How much longer matrix products and what is around them take, where a tile is large: forward and
# input gradient, weight gradient.  Filters of one dimension, too.
PLANE_FACTORS, LINE_FACTOR = {"forward": 1.3, "input_grad": 1.3, "weight_grad": 1.35}, 1.5


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
    side = LARGEST_DENSE_SIDE if is_dense(s) else LARGEST_SIDE
    if None in s.axes:
        lines = xs if s.axes[0] is None else ys
        tilings = [Tiling(None, line) for line in lines if line.size % 512]
    else:
        tilings = [Tiling(y, x) for y in ys for x in xs if max(y.size, x.size) <= side]

    def work(t: Tiling) -> float:
        costs = costs_of(t, s, kind)
        images = TYPICAL_IMAGES * (costs.image_cycles + costs.products / CYCLE_WORK)
        return images + costs.filter_cycles

    possible = (t for t in tilings if not is_dense(s) or _is_small(t, s))
    return min(possible, key=work, default=None)


def is_dense(s: Shape2d) -> bool:
    """Whether each result is a sum over all channels, of which there are several."""
    return s.groups == 1 < s.in_channels * s.out_channels


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


@dataclass(frozen=True)
class Costs:
    """Cycles of transforms, and multiply-adds of matrix products, of all channels."""

    filter_cycles: float  # of the filters there, or of their gradients back
    image_cycles: float
    products: float  # of an image


def target_block(t: Tiling, channels: int, targets: int) -> int:
    """How many target channels share the transformed source."""
    per_target = FACTORS * t.points * round_up(channels, LANES) * ELEMENT_BYTES
    most = max(PANEL, STATIONARY_BYTES // per_target // PANEL * PANEL)
    return round_up(equal_part(targets, most), PANEL)


def _is_small(t: Tiling, s: Shape2d) -> bool:
    """Whether the operands of a block fit into memory that a page can spare."""
    most = max(s.in_channels, s.out_channels)
    least_rows = LEAST_TILES * (round_up(most, PANEL) + PANEL) + PANEL * most
    return FACTORS * t.points * least_rows * ELEMENT_BYTES <= LARGEST_BYTES


def costs_of(t: Tiling, s: Shape2d, kind: str) -> Costs:
    taps = t.y.taps if t.y else 1
    filters = _cycles(t, taps) + TAP_CYCLES * taps * t.x.taps  # four of them
    there, back = _cycles(t, t.data_rows), _cycles(t, t.result_rows)
    fours = [-(-channels // LANES) for channels in (s.in_channels, s.out_channels)]
    if not is_dense(s):
        image = t.tiles * (there + back + PRODUCT_CYCLES[kind] * t.points)
        return Costs(fours[0] * filters, fours[0] * image, 0)
    spread = SPREAD_CYCLES * t.points
    if kind == "weight_grad":
        sources, targets = s.in_channels, s.out_channels
        sums = fours[1] * LANES * round_up(sources, PANEL)
        pairs = targets * fours[0]
    else:
        sources, targets = s.in_channels, s.out_channels
        if kind == "input_grad":
            sources, targets, fours = targets, sources, fours[::-1]
        sums = (sources + PRODUCT_SUMS) * round_up(targets, PANEL)
        pairs = sources * fours[1]
    blocks = -(-targets // target_block(t, sources, targets))
    image = t.tiles * (blocks * fours[0] * (there + spread) + fours[1] * (back + spread))
    products = t.tiles * FACTORS * t.points * sums
    if t.y is None:
        return Costs(LINE_FACTOR * pairs * (filters + spread), image, products)
    factor = PLANE_FACTORS[kind]
    return Costs(factor * pairs * (filters + spread), factor * image, factor * products)


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

"""The geometry of convolutions: one and two dimensions as two, and the planes that serve them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hearth.codegen.wasm.planes import Pair, Planes
from hearth.ir.kernel import ConvTemplate

BLOCK_SUMS = 1 << 16  # elements of a block: it stays in the second-level cache
BLOCK_PLANES = 1 << 17
LONG_ROW = 1 << 18  # a 1-d convolution beyond this is walked along y instead of x


@dataclass(frozen=True)
class Shape2d:
    """A convolution of one or two dimensions, as two: `is_column` puts a single one along y."""

    groups: int
    in_channels: int
    out_channels: int
    image: Pair
    result: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    axes: tuple[int | None, int | None]  # the kernel axis along y and along x

    @staticmethod
    def of(t: ConvTemplate) -> Shape2d:
        rank = len(t.kernel)
        channels = max(t.in_channels, t.out_channels)
        is_column = rank == 1 and channels * max(t.in_spatial[0], t.out_spatial[0]) > LONG_ROW

        def pair(values: Sequence[int], default: int) -> Pair:
            if rank == 2:
                return values[0], values[1]
            return (values[0], default) if is_column else (default, values[0])

        s = t.spec
        axes = (2, 3) if rank == 2 else (2, None) if is_column else (None, 2)
        return Shape2d(
            s.groups, t.in_channels, t.out_channels, pair(t.in_spatial, 1),
            pair(t.out_spatial, 1), pair(t.kernel, 1), pair(s.stride, 1), pair(s.padding, 0),
            pair(s.dilation, 1), axes,
        )  # fmt: skip

    @property
    def taps(self) -> tuple[Pair, ...]:
        """What each element of the kernel reads, relative to the first, row-major."""
        rows, columns = self.kernel
        dy, dx = self.dilation
        return tuple((y * dy, x * dx) for y in range(rows) for x in range(columns))


def image_planes(s: Shape2d, is_forward: bool) -> Planes:
    if is_forward:

        def of(rows: int) -> Planes:
            return Planes(s.image, s.result, s.taps, s.padding, s.stride, (1, 1), rows)

        return _blocked(of, s.result[0], s.in_channels, s.out_channels)
    # dX is a convolution of g, spread out by the stride, with the kernel upside down.
    last = s.taps[-1]
    taps = tuple((last[0] - y, last[1] - x) for y, x in s.taps)
    padding = (last[0] - s.padding[0], last[1] - s.padding[1])

    def of_gradient(rows: int) -> Planes:
        return Planes(s.result, s.image, taps, padding, (1, 1), s.stride, rows)

    return _blocked(of_gradient, s.image[0], s.out_channels, s.in_channels)


def weight_planes(s: Shape2d, rows_of_gradient: int) -> Planes:
    def of(rows: int) -> Planes:
        return Planes(s.image, s.result, s.taps, s.padding, s.stride, (1, 1), rows)

    return _blocked(of, s.result[0], s.in_channels // s.groups, rows_of_gradient)


def _blocked(of: Callable[[int], Planes], rows: int, sources: int, targets: int) -> Planes:
    """The planes with as many rows per block as the cache bears, in equal blocks."""

    def fits(count: int) -> bool:
        p = of(count)
        is_small = targets * p.block_positions <= BLOCK_SUMS
        return is_small and sources * p.size <= BLOCK_PLANES

    most = max((count for count in range(1, rows + 1) if fits(count)), default=1)
    number = -(-rows // most)
    return of(-(-rows // number))

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


@dataclass(frozen=True)
class ImageProduct:
    """A product whose result is an image: planes, and which taps reach which results.

    The gradient of a strided convolution falls apart into phases, one per remainder of the
    result's coordinate (plus padding) by the stride: convolutions of stride 1 with a part of the
    taps.  Position o of a phase stands for the quotient `first + o`.
    """

    planes: Planes  # its taps are in the order of the kernel's elements
    phases: tuple[tuple[int, ...], ...]  # numbers of taps
    stride: Pair
    padding: Pair
    first: Pair

    @staticmethod
    def of_forward(s: Shape2d) -> ImageProduct:
        planes = _blocked(_forward_planes(s), s.result[0], s.in_channels, s.out_channels)
        return ImageProduct(planes, (tuple(range(len(s.taps))),), (1, 1), (0, 0), (0, 0))

    @staticmethod
    def of_input_grad(s: Shape2d) -> ImageProduct:
        sizes = zip(s.image, s.padding, s.stride, s.taps[-1], strict=True)
        (y, dy, qy), (x, dx, qx) = (_phase_positions(*size) for size in sizes)
        last = tuple(t // d for t, d in zip(s.taps[-1], s.stride, strict=True))
        taps = tuple(
            (last[0] - ty // s.stride[0], last[1] - tx // s.stride[1]) for ty, tx in s.taps
        )

        def of(rows: int) -> Planes:
            return Planes(s.result, (y, x), taps, (dy, dx), (1, 1), rows)

        planes = _blocked(of, y, s.out_channels, s.in_channels * s.stride[0] * s.stride[1])
        numbers = range(s.stride[0] * s.stride[1])
        phase_of = [(ty % s.stride[0]) * s.stride[1] + tx % s.stride[1] for ty, tx in s.taps]
        phases = tuple(tuple(i for i, p in enumerate(phase_of) if p == n) for n in numbers)
        return ImageProduct(planes, phases, s.stride, s.padding, (qy, qx))


def _phase_positions(extent: int, padding: int, stride: int, last: int) -> tuple[int, int, int]:
    """Along one axis: how many positions a phase has, the padding of g, and the first quotient."""
    first = max(0, -(-(padding - stride + 1) // stride))
    return (extent - 1 + padding) // stride + 1 - first, last // stride - first, first


def weight_planes(s: Shape2d, rows_of_gradient: int) -> Planes:
    """The planes of x; `rows_of_gradient` channels of g are in the cache with them."""
    channels = s.in_channels // s.groups
    return _blocked(_forward_planes(s), s.result[0], channels, rows_of_gradient)


def _forward_planes(s: Shape2d) -> Callable[[int], Planes]:
    return lambda rows: Planes(s.image, s.result, s.taps, s.padding, s.stride, rows)


def _blocked(of: Callable[[int], Planes], rows: int, sources: int, targets: int) -> Planes:
    """The planes with as many rows per block as the cache bears, in equal blocks."""

    def fits(count: int) -> bool:
        p = of(count)
        is_small = targets * p.block_positions <= BLOCK_SUMS
        return is_small and sources * p.size <= BLOCK_PLANES

    most = max((count for count in range(1, rows + 1) if fits(count)), default=1)
    number = -(-rows // most)
    return of(-(-rows // number))

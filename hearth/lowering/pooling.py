"""Pooling as a view of windows and a reduction; the gradients read the transposed windows.

Every rule serves any number of spatial axes, which are the last ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dim import Dim, Shape
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.graph import Node, WindowSpec
from hearth.ir.scalar import Arg, Const, Coord, Expr, Scalar, apply, cast, const
from hearth.lowering.rules import lowers

Ints = tuple[int, ...]


@lowers("hearth.window")
def _window(
    site: AtenNode, x: Node, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Node:
    return build.window(x, WindowSpec(kernel, stride, padding, dilation), 0, origin=site.origin)


@lowers("aten.max_pool2d_with_indices.default", "aten.max_pool3d_with_indices.default")
def _max_pool(
    site: AtenNode, x: Node, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil: bool
) -> tuple[Node, Node]:
    """The largest value of each window, and where it lies in the flattened plane.

    The first largest in row-major order wins and NaN wins over all, as in PyTorch.  Of several NaN
    PyTorch takes the last, we the first: the last would cost every pool a third reduction.
    """
    spec = WindowSpec(kernel, stride, padding, dilation)
    lowest = -math.inf if x.dtype == FLOAT32 else -(2**31)
    windows = build.window(x, spec, lowest, ceil=ceil, origin=site.origin)
    taps = _last_axes(windows, spec.rank)
    values = build.reduce("max", windows, taps, site.origin)
    tap = build.reduce("argmax", windows, taps, site.origin)
    tap = build.reshape(tap, site.shape, site.origin)
    expr = _plane_index(spec, _spatial(x, spec), Arg(INT32, 0), len(site.shape))
    index = build.pointwise(expr, tap, origin=site.origin)
    return build.reshape(values, site.shape, site.origin), index


@lowers("hearth.max_pool_grad")
def _max_pool_grad(
    site: AtenNode, g: Node, indices: Node, _: Shape, kernel: Ints, stride: Ints, padding: Ints,
    dilation: Ints,
) -> Node:  # fmt: skip
    """Each element takes the gradient of the windows whose index is its own place."""
    spec = WindowSpec(kernel, stride, padding, dilation)
    rank, lead = len(site.shape), len(site.shape) - spec.rank
    own: Expr = const(0, INT32)
    for axis in range(lead, rank):
        own = apply("add", apply("mul", own, site.shape[axis].static), Coord(INT32, axis))
    chosen = apply("where", apply("eq", Arg(INT32, 1), own), Arg(g.dtype, 0), const(0, g.dtype))

    if _tiles(spec):
        parts = [_spread(g, spec, site, 0), _spread(indices, spec, site, -1)]
        return build.pointwise(chosen, *parts, origin=site.origin)
    spatial = site.shape[lead:]
    parts = [
        build.window_transpose(g, spec, spatial, 0, site.origin),
        build.window_transpose(indices, spec, spatial, -1, site.origin),
    ]
    return _sum_taps(build.pointwise(chosen, *parts, origin=site.origin), spec, site)


@lowers("aten.avg_pool2d.default", "aten.avg_pool3d.default")
def _avg_pool(
    site: AtenNode, x: Node, kernel: Ints, stride: Ints, padding: Ints, ceil: bool,
    count_include_pad: bool, divisor: int | None,
) -> Node:  # fmt: skip
    spec = WindowSpec(kernel, stride, padding, (1,) * len(kernel))
    windows = build.window(x, spec, 0, ceil=ceil, origin=site.origin)
    total = _sum_taps(windows, spec, site)
    count = _window_size(spec, _spatial(x, spec), site.shape, count_include_pad, divisor)
    return build.pointwise(_quotient(Arg(x.dtype, 0), count), total, origin=site.origin)


@lowers("hearth.avg_pool_grad")
def _avg_pool_grad(
    site: AtenNode, g: Node, _: Shape, kernel: Ints, stride: Ints, padding: Ints, __: bool,
    count_include_pad: bool, divisor: int | None,
) -> Node:  # fmt: skip
    spec = WindowSpec(kernel, stride, padding, (1,) * len(kernel))
    spatial = site.shape[len(site.shape) - spec.rank :]
    count = _window_size(spec, spatial, g.shape, count_include_pad, divisor)
    share = build.pointwise(_quotient(Arg(g.dtype, 0), count), g, origin=site.origin)
    if _tiles(spec):
        return _spread(share, spec, site, 0)
    return _sum_taps(build.window_transpose(share, spec, spatial, 0, site.origin), spec, site)


def _spatial(x: Node, spec: WindowSpec) -> Shape:
    return x.shape[len(x.shape) - spec.rank :]


def _last_axes(x: Node, count: int) -> range:
    return range(len(x.shape) - count, len(x.shape))


def _sum_taps(windows: Node, spec: WindowSpec, site: AtenNode) -> Node:
    total = build.reduce("sum", windows, _last_axes(windows, spec.rank), site.origin)
    return build.reshape(total, site.shape, site.origin)


def _plane_index(spec: WindowSpec, spatial: Shape, tap: Expr, rank: int) -> Expr:
    """From a tap number to the element's number in the plane.

    Only a window of nothing but -inf can choose a tap in the padding, namely its first; it means
    the window's first element inside the plane.
    """
    index: Expr = const(0, INT32)
    for axis, (extent, size) in enumerate(zip(spatial, spec.kernel, strict=True)):
        later = math.prod(spec.kernel[axis + 1 :])
        along = tap if later == 1 else apply("floor_div", tap, later)
        along = apply("remainder", along, size) if axis > 0 else along
        start = apply("mul", Coord(INT32, rank - spec.rank + axis), spec.stride[axis])
        start = apply("sub", start, spec.padding[axis])
        place = apply("add", start, apply("mul", along, spec.dilation[axis]))
        if spec.padding[axis] > 0:
            place = apply("maximum", place, _first_inside(start, spec.dilation[axis]))
        index = apply("add", apply("mul", index, extent.static), place)
    return index


def _first_inside(start: Expr, dilation: int) -> Expr:
    """The first of start, start + dilation, ... that is not negative."""
    missing = apply("maximum", apply("neg", start), 0)
    steps = apply("floor_div", apply("add", missing, dilation - 1), dilation)
    return apply("add", start, apply("mul", steps, dilation))


def _window_size(
    spec: WindowSpec, spatial: Shape, shape: Shape, count_include_pad: bool, divisor: int | None
) -> Expr:
    """How many elements a window's mean divides by (ATen's avg_pool2d)."""
    if divisor is not None:
        return const(divisor, INT32)
    lead = len(shape) - spec.rank
    counts = [
        _count(spec, axis, spatial[axis], shape[lead + axis], lead, count_include_pad)
        for axis in range(spec.rank)
    ]
    whole = math.prod(c for c in counts if isinstance(c, int))
    varying = [c for c in counts if not isinstance(c, int)]
    factors = [*varying, const(whole, INT32)] if whole != 1 or not varying else varying
    return functools.reduce(lambda a, b: apply("mul", a, b), factors)


def _quotient(total: Expr, count: Expr) -> Expr:
    """A mean; of integers it is cut off towards zero, as in C."""
    if total.dtype == FLOAT32:
        exact = const(float(count.value)) if isinstance(count, Const) else cast(count, FLOAT32)
        return apply("div", total, exact)
    if isinstance(count, Const) and count.value < 0:
        return apply("neg", _quotient(total, const(-count.value, INT32)))
    quotient = apply("floor_div", apply("abs", total), count)
    return apply("where", apply("lt", total, 0), apply("neg", quotient), quotient)


def _count(
    spec: WindowSpec, axis: int, extent: Dim, positions: Dim, lead: int, count_include_pad: bool
) -> Expr | int:
    """Along one axis: the kernel, or less where the window sticks out."""
    kernel, stride, padding = spec.kernel[axis], spec.stride[axis], spec.padding[axis]
    low, high = (-padding, extent + padding) if count_include_pad else (0, extent)
    first, last = Dim.of(-padding), (positions - 1) * stride - padding + kernel
    if first.is_at_least(low) and high.is_at_least(last):
        return kernel
    start = apply("sub", apply("mul", Coord(INT32, lead + axis), stride), padding)
    end = apply("minimum", apply("add", start, kernel), high.static)
    return apply("sub", end, apply("maximum", start, low))


def _tiles(spec: WindowSpec) -> bool:
    """Whether windows lie side by side: each element belongs to one, and to the same tap."""
    return (
        spec.stride == spec.kernel
        and not any(spec.padding)
        and all(d == 1 or k == 1 for d, k in zip(spec.dilation, spec.kernel, strict=True))
    )


def _spread(x: Node, spec: WindowSpec, site: AtenNode, fill: Scalar) -> Node:
    """Each window position repeated over its tile; `fill` for elements that no window saw."""
    lead = x.shape[: len(x.shape) - spec.rank]
    positions = x.shape[len(lead) :]
    thin, wide = list(lead), list(lead)
    for position, size in zip(positions, spec.kernel, strict=True):
        thin += [position, Dim.of(1)]
        wide += [position, Dim.of(size)]
    tiled = build.expand(build.reshape(x, thin, site.origin), wide, site.origin)
    covered = tuple(p * k for p, k in zip(positions, spec.kernel, strict=True))
    tiled = build.reshape(tiled, (*lead, *covered), site.origin)
    target: Sequence[Dim] = site.shape[len(lead) :]
    high = [t - c for t, c in zip(target, covered, strict=True)]
    return build.pad(tiled, [0] * len(site.shape), [*(0,) * len(lead), *high], fill, site.origin)

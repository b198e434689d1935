"""Where a view's element comes from: output coordinates to input coordinates, with guards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.ir.dim import Dim
from hearth.ir.graph import (
    Expand,
    Node,
    Pad,
    Permute,
    Recompute,
    Reshape,
    Slice,
    Window,
    WindowTranspose,
)
from hearth.ir.index import Index, delinearize, floor_div, is_in_range, linearize
from hearth.ir.kernel import Divisible, Guard, InRange

Coords = tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The input coordinate, and what must hold for it to exist; else the element is `fill`."""

    coords: Coords
    guards: tuple[Guard, ...] = ()
    fill: float | int | bool = 0


def source_of(node: Node, coords: Coords) -> Source:
    """What a view node reads for one of its elements."""
    (x,) = node.inputs
    match node.op:
        case Recompute():
            return Source(coords)
        case Reshape():
            return Source(delinearize(linearize(coords, node.shape), x.shape))
        case Permute(order=order):
            moved = dict(zip(order, coords, strict=True))
            return Source(tuple(moved[i] for i in range(len(order))))
        case Expand():
            return Source(broadcast_coords(coords, x))
        case Slice(start=start, step=step):
            return Source(tuple(c * k + s for c, k, s in zip(coords, step, start, strict=True)))
        case Pad(low=low, fill=fill):
            shifted = tuple(c - a for c, a in zip(coords, low, strict=True))
            guards = in_range_guards(shifted, x.shape)
            return Source(shifted, guards, fill)
        case Window():
            return _window(node.op, x, coords)
        case WindowTranspose():
            return _window_transpose(node.op, x, coords)
    raise AssertionError(f"{type(node.op).__name__} is not a view")


def broadcast_coords(coords: Coords, x: Node) -> Coords:
    """The coordinate in an operand that broadcasts to the coordinate's shape."""
    tail = coords[len(coords) - len(x.shape) :]
    return tuple(Index() if e == Dim.of(1) else c for c, e in zip(tail, x.shape, strict=True))


def _window(op: Window, x: Node, coords: Coords) -> Source:
    spec, rank = op.spec, op.spec.rank
    lead, positions, taps = coords[: -2 * rank], coords[-2 * rank : -rank], coords[-rank:]
    spatial = tuple(
        o * s + k * d - p
        for o, k, s, d, p in zip(
            positions, taps, spec.stride, spec.dilation, spec.padding, strict=True
        )
    )
    guards = in_range_guards(spatial, x.shape[len(lead) :])
    return Source(lead + spatial, guards, op.fill)


def _window_transpose(op: WindowTranspose, x: Node, coords: Coords) -> Source:
    spec, rank = op.spec, op.spec.rank
    lead, spatial, taps = coords[: -2 * rank], coords[-2 * rank : -rank], coords[-rank:]
    positions, guards = transposed_positions(
        spatial, taps, spec.stride, spec.padding, spec.dilation, x.shape[len(lead) :]
    )
    return Source(lead + positions, guards, op.fill)


def transposed_positions(
    spatial: Sequence[Index], taps: Sequence[Index], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], extents: Sequence[Dim],
) -> tuple[Coords, tuple[Guard, ...]]:  # fmt: skip
    """Which window position reads an element under a tap, and whether there is one."""
    positions: list[Index] = []
    guards: list[Guard] = []
    for i, k, s, p, d, extent in zip(
        spatial, taps, stride, padding, dilation, extents, strict=True
    ):
        offset = i - k * d + p
        if not is_in_range(offset, extent * s):
            guards.append(InRange(offset, extent * s))
        if s > 1:
            guards.append(Divisible(offset, s))
        positions.append(floor_div(offset, s))
    return tuple(positions), tuple(guards)


def in_range_guards(coords: Sequence[Index], shape: Sequence[Dim]) -> tuple[Guard, ...]:
    return tuple(InRange(c, e) for c, e in zip(coords, shape, strict=True) if not is_in_range(c, e))

"""Reductions: ours keep the reduced axes, a reshape drops them."""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dtype import BOOL, INT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Arg, cast, const
from hearth.lowering.rules import device_dtype, lowers

_NUMBERS = {BOOL: INT32}  # in which booleans are counted and compared


def typed(x: Node, dtype: str, origin: str) -> Node:
    """The node in another element type."""
    if x.dtype == dtype:
        return x
    return build.pointwise(cast(Arg(x.dtype, 0), dtype), x, origin=origin)


def _axes(x: Node, axes: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's rule: no axes means all of them."""
    return axes or tuple(range(len(x.shape)))


@lowers("aten.sum.dim_IntList", "aten.prod.dim_int")
def _total(site: AtenNode, x: Node, axes: tuple[int, ...], _: bool) -> Node:
    kind, dtype = "prod" if "prod" in site.target else "sum", device_dtype(site)
    numbers = typed(typed(x, dtype, site.origin), _NUMBERS.get(dtype, dtype), site.origin)
    total = build.reduce(kind, numbers, _axes(x, axes), site.origin) if x.shape else numbers
    return build.reshape(typed(total, dtype, site.origin), site.shape, site.origin)


@lowers("aten.amax.default", "aten.amin.default")
def _extreme(site: AtenNode, x: Node, axes: tuple[int, ...], _: bool) -> Node:
    kind = "max" if "amax" in site.target else "min"
    numbers = typed(x, _NUMBERS.get(x.dtype, x.dtype), site.origin)
    found = build.reduce(kind, numbers, _axes(x, axes), site.origin) if x.shape else numbers
    return build.reshape(typed(found, x.dtype, site.origin), site.shape, site.origin)


@lowers("aten.argmax.default", "aten.argmin.default")
def _position(site: AtenNode, x: Node, axis: int | None, _: bool) -> Node:
    if not x.shape:
        return build.pointwise(const(0, INT32), shape=(), origin=site.origin)
    numbers = typed(x, _NUMBERS.get(x.dtype, x.dtype), site.origin)
    kind = "argmax" if "argmax" in site.target else "argmin"
    axes = tuple(range(len(x.shape))) if axis is None else (axis,)
    return build.reshape(build.reduce(kind, numbers, axes, site.origin), site.shape, site.origin)

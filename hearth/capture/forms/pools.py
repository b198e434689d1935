"""Pools and windows, spelled in one order with one number per axis."""

from __future__ import annotations

from hearth.capture.graph import Argument
from hearth.capture.rewriter import Call, Rewriter, form

_RANKS = {"aten.max_pool2d_with_indices.default": 2, "aten.avg_pool2d.default": 2}
_RANKS |= {"aten.max_pool3d_with_indices.default": 3, "aten.avg_pool3d.default": 3}


def _per_axis(c: Call, name: str) -> tuple[int, ...]:
    given = c.integers(name)
    return given * _RANKS[c.node.target] if len(given) == 1 else given


@form("aten.max_pool2d_with_indices.default", "aten.max_pool3d_with_indices.default")
def _max_pool(r: Rewriter, c: Call) -> Argument:
    kernel = _per_axis(c, "kernel_size")
    stride = _per_axis(c, "stride") or kernel
    rest = (_per_axis(c, "padding"), _per_axis(c, "dilation"), c["ceil_mode"])
    return r.emit_many(c.node.target, (c.value(), kernel, stride, *rest), c.node.results)


@form("aten.avg_pool2d.default", "aten.avg_pool3d.default")
def _avg_pool(r: Rewriter, c: Call) -> Argument:
    kernel = _per_axis(c, "kernel_size")
    stride = _per_axis(c, "stride") or kernel
    rest = (c["ceil_mode"], c["count_include_pad"], c["divisor_override"])
    args = (c.value(), kernel, stride, _per_axis(c, "padding"), *rest)
    return r.emit(c.node.target, args, c.shape, c.dtype)


@form("hearth.max_pool_grad", "hearth.avg_pool_grad", "hearth.window")
def _spelled(r: Rewriter, c: Call) -> Argument:
    """Operators of ours come with the arguments of `opset.py`, in order."""
    return r.emit(c.node.target, tuple(c.arguments.values()), c.shape, c.dtype)

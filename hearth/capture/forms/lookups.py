"""Contractions and pools, spelled in one order, and lookups by index."""

from __future__ import annotations

import math

from hearth.capture.graph import Argument, Value
from hearth.capture.rewriter import FORMS, Call, Form, Rewriter, extents, form

# ------------------------------------------------------------------ contractions, pools and lookups


def _spelled(*names: str) -> Form:
    """The arguments of these names, in this order."""

    def spelled(r: Rewriter, c: Call) -> Argument:
        args = tuple(c[name] for name in names)
        like = c.node.results
        new = r.emit_many(c.node.target, args, like)
        return new if len(new) > 1 else new[0]

    return spelled


_GEOMETRY = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
FORMS.update(
    {
        "aten.mm.default": _spelled("self", "mat2"),
        "aten.bmm.default": _spelled("self", "mat2"),
        "aten.convolution.default": _spelled("input", "weight", "bias", *_GEOMETRY),
        "hearth.conv_input_grad": _spelled("g", "w", "x_shape", *_GEOMETRY),
        "hearth.conv_weight_grad": _spelled("g", "x", "w_shape", *_GEOMETRY),
        "hearth.max_pool_grad": _spelled(
            "g", "indices", "x_shape", "kernel", "stride", "padding", "dilation"
        ),
        "hearth.avg_pool_grad": _spelled(
            *("g", "x_shape", "kernel", "stride", "padding"),
            *("ceil_mode", "count_include_pad", "divisor"),
        ),
        "aten.index_select.default": _spelled("self", "dim", "index"),
        "hearth.index_add": _spelled("g", "indices", "size"),
    }
)


@form("aten.gather.default")
def _gather(r: Rewriter, c: Call) -> Argument | None:
    if len(c.value().shape) != 1:
        return None
    return r.emit("aten.index_select.default", (c.value(), 0, c["index"]), c.shape, c.dtype)


def _pair(c: Call, name: str) -> tuple[int, ...]:
    given = c.integers(name)
    return given * 2 if len(given) == 1 else given


@form("aten.max_pool2d_with_indices.default")
def _max_pool(r: Rewriter, c: Call) -> Argument:
    kernel = _pair(c, "kernel_size")
    stride = _pair(c, "stride") or kernel
    args = (c.value(), kernel, stride, _pair(c, "padding"), _pair(c, "dilation"), c["ceil_mode"])
    return r.emit_many(c.node.target, args, c.node.results)


@form("aten.avg_pool2d.default")
def _avg_pool(r: Rewriter, c: Call) -> Argument:
    kernel = _pair(c, "kernel_size")
    stride = _pair(c, "stride") or kernel
    rest = (c["ceil_mode"], c["count_include_pad"], c["divisor_override"])
    return r.emit(
        c.node.target, (c.value(), kernel, stride, _pair(c, "padding"), *rest), c.shape, c.dtype
    )


def _indexed_axis(c: Call) -> tuple[int, Value] | None:
    """The axis and indices of `x[:, indices]`, where a single axis is indexed by integers."""
    indices = c["indices"]
    assert isinstance(indices, tuple)
    chosen = [(axis, i) for axis, i in enumerate(indices) if isinstance(i, Value)]
    if len(chosen) != 1 or chosen[0][1].dtype == "bool":
        return None
    return chosen[0]


def _non_negative(r: Rewriter, indices: Value, size: int) -> Value:
    """Flat indices, the negative ones counted from the end."""
    shape, dtype = extents(indices), indices.dtype
    negative = r.pointwise("aten.lt.Tensor", (indices, 0), shape, "bool", dtype)
    turned = r.pointwise("aten.add.Tensor", (indices, size), shape, dtype, dtype)
    whole = r.emit("aten.where.self", (negative, turned, indices), shape, dtype)
    return r.reshape(whole, (math.prod(shape),))


@form("aten.index.Tensor")
def _index(r: Rewriter, c: Call) -> Argument | None:
    x, chosen = c.value(), _indexed_axis(c)
    if chosen is None:
        return None
    axis, indices = chosen
    flat = _non_negative(r, indices, extents(x)[axis])
    shape = (*extents(x)[:axis], *extents(flat), *extents(x)[axis + 1 :])
    rows = r.emit("aten.index_select.default", (x, axis, flat), shape, c.dtype)
    return r.reshape(rows, c.shape)


@form("aten.index_put.default")
def _index_put(r: Rewriter, c: Call) -> Argument | None:
    """Only the accumulating form, which is the gradient of indexing."""
    x, chosen = c.value(), _indexed_axis(c)
    if chosen is None or not c["accumulate"]:
        return None
    axis, indices = chosen
    before, size, behind = extents(x)[:axis], extents(x)[axis], extents(x)[axis + 1 :]
    flat = _non_negative(r, indices, size)
    values = r.expand(c.value("values"), (*before, *extents(indices), *behind))
    rows = r.reshape(values, (*before, *extents(flat), *behind))
    front = [axis, *(a for a in range(len(rows.shape)) if a != axis)]
    args = (r.permute(rows, front), flat, size)
    added = r.emit("hearth.index_add", args, (size, *before, *behind), c.dtype)
    total = (x, r.permute(added, [front.index(a) for a in range(len(front))]))
    return r.pointwise("aten.add.Tensor", total, c.shape, c.dtype, c.dtype)

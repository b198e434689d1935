"""Contractions, spelled in one order, and lookups by index."""

from __future__ import annotations

from hearth.capture.graph import Argument
from hearth.capture.rewriter import FORMS, Call, Form, Rewriter, extents, form

# ------------------------------------------------------------------ contractions and lookups


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
        "aten.index_select.default": _spelled("self", "dim", "index"),
        "hearth.index_add": _spelled("g", "indices", "size"),
        "hearth.scan": _spelled("x", "kind"),
        "hearth.order": _spelled("x", "count", "descending"),
    }
)


@form("aten.gather.default")
def _gather(r: Rewriter, c: Call) -> Argument:
    x, indices = c.value(), c.value("index")
    axis = c.integer("dim") % len(c.shape)
    promise = (indices, extents(x)[axis], None)
    indices = r.emit("hearth.index_range", promise, c.shape, indices.dtype)
    return r.emit("aten.gather.default", (x, axis, indices), c.shape, c.dtype)

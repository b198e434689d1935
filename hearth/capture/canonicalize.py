"""Canonical forms: the many spellings of an operation in ATen become the one in `opset.CORE_OPS`.

Works on one concrete trace, where every extent is a plain integer.  An operation without a form
here keeps its name and its named arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hearth.capture.graph import Argument, AtenGraph, Value
from hearth.capture.opset import BINARY_OPS, BITWISE_OPS, COMPARE_OPS, UNARY_OPS
from hearth.capture.prune import prune
from hearth.capture.rewriter import Call, Form, Rewriter, extents, is_float, promoted

FORMS: dict[str, Form] = {}


def canonicalize(graph: AtenGraph) -> AtenGraph:
    """The graph in canonical operations, without dead ones."""
    return prune(Rewriter(FORMS).run(prune(graph)))


def _form(*targets: str) -> Callable[[Form], Form]:
    def register(form: Form) -> Form:
        FORMS.update(dict.fromkeys(targets, form))
        return form

    return register


# ---------------------------------------------------------------------------------------- pointwise


def _unary(r: Rewriter, c: Call) -> Argument:
    return r.pointwise(c.node.target, (c.value(),), c.shape, c.dtype, _computed(c))


def _computed(c: Call) -> str:
    """What a function of one tensor is computed in: its own dtype unless the result floats."""
    return c.dtype if is_float(c.dtype) else c.value().dtype


FORMS.update(dict.fromkeys(UNARY_OPS, _unary))


def _binary(target: str, compare: bool) -> Form:
    def form(r: Rewriter, c: Call) -> Argument:
        a, b = c["self"], c["other"]
        of = promoted((a, b)) if compare else c.dtype
        if c.arguments.get("alpha", 1) != 1:
            b = _times(r, b, c["alpha"], of)
        return r.pointwise(target, (a, b), c.shape, c.dtype, of)

    return form


def _times(r: Rewriter, x: Argument, factor: Argument, dtype: str) -> Argument:
    if isinstance(x, (int, float)):
        assert isinstance(factor, (int, float))
        return x * factor
    assert isinstance(x, Value)
    return r.pointwise("aten.mul.Tensor", (x, factor), extents(x), dtype, dtype)


for _target in (*BINARY_OPS, *BITWISE_OPS, *COMPARE_OPS):
    _made = _binary(_target, compare=_target in COMPARE_OPS)
    FORMS[_target] = _made
    FORMS[_target.replace(".Tensor", ".Scalar")] = _made


@_form("aten.rsub.Scalar", "aten.rsub.Tensor")
def _rsub(r: Rewriter, c: Call) -> Argument:
    subtracted = c["self"] if c["alpha"] == 1 else _times(r, c["self"], c["alpha"], c.dtype)
    return r.pointwise("aten.sub.Tensor", (c["other"], subtracted), c.shape, c.dtype, c.dtype)


@_form("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def _div_mode(r: Rewriter, c: Call) -> Argument | None:
    mode = c["rounding_mode"]
    if mode is not None and not is_float(c.dtype):
        return None
    operands = (c["self"], c["other"])
    quotient = r.pointwise("aten.div.Tensor", operands, c.shape, c.dtype, c.dtype)
    if mode is None:
        return quotient
    return r.emit(f"aten.{mode}.default", (quotient,), c.shape, c.dtype)


@_form("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def _pow(r: Rewriter, c: Call) -> Argument:
    operands = (c["self"], c["exponent"])
    return r.pointwise(c.node.target, operands, c.shape, c.dtype, c.dtype)


@_form("aten.where.self", "aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def _where(r: Rewriter, c: Call) -> Argument:
    filled = "mask" in c.arguments
    condition = r.cast(c.value("mask" if filled else "condition"), "bool")
    yes, no = (c["value"], c["self"]) if filled else (c["self"], c["other"])
    inlined = [
        r.scalars.get(a, a) if isinstance(a, Value) and not a.shape else a for a in (yes, no)
    ]
    operands = [r.cast(a, c.dtype) if isinstance(a, Value) else a for a in inlined]
    return r.emit("aten.where.self", (condition, *operands), c.shape, c.dtype)


@_form("aten.threshold_backward.default")
def _threshold_backward(r: Rewriter, c: Call) -> Argument:
    operands = (c["grad_output"], c["self"], c["threshold"])
    return r.pointwise(c.node.target, operands, c.shape, c.dtype, c.dtype)


@_form("aten.logical_and.default", "aten.logical_or.default", "aten.logical_xor.default")
def _logical(r: Rewriter, c: Call) -> Argument:
    target = c.node.target.replace("logical", "bitwise").replace("default", "Tensor")
    return r.pointwise(target, (c["self"], c["other"]), c.shape, "bool", "bool")


@_form("aten.bitwise_not.default")
def _bitwise_not(r: Rewriter, c: Call) -> Argument | None:
    if c.dtype != "bool":
        return None
    return r.emit("aten.logical_not.default", (c.value(),), c.shape, "bool")


@_form("hearth.index_range")
def _index_range(r: Rewriter, c: Call) -> Argument:
    args = (c.value("y"), c["size"], c["except_value"])
    return r.emit("hearth.index_range", args, c.shape, c.dtype)


# ---------------------------------------------------------------------- copies, casts and creation


@_form(
    *("aten.clone.default", "aten.detach.default", "aten.alias.default"),
    *("aten.lift_fresh.default", "aten.lift_fresh_copy.default", "aten._to_copy.default"),
)
def _copy(r: Rewriter, c: Call) -> Argument:
    return r.cast(c.value(), c.dtype)


@_form("aten.copy.default")
def _copy_from(r: Rewriter, c: Call) -> Argument:
    return r.expand(r.cast(c.value("src"), c.dtype), c.shape)


_FILLED = {
    **{f"aten.{name}.default": 0 for name in ("zeros", "zeros_like", "new_zeros", "empty_like")},
    **{f"aten.{name}.default": 0 for name in ("new_empty", "new_empty_strided")},
    **{f"aten.empty.{name}": 0 for name in ("memory_format",)},
    **{f"aten.{name}.default": 1 for name in ("ones", "ones_like", "new_ones")},
}


@_form(*_FILLED)
def _filled(r: Rewriter, c: Call) -> Argument:
    return r.full(c.shape, _FILLED[c.node.target], c.dtype)


@_form("aten.scalar_tensor.default")
def _scalar_tensor(r: Rewriter, c: Call) -> Argument | None:
    return _full(r, c, c["s"])


@_form("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def _full_like(r: Rewriter, c: Call) -> Argument | None:
    return _full(r, c, c["fill_value"])


@_form("aten.fill.Scalar")
def _fill(r: Rewriter, c: Call) -> Argument | None:
    return _full(r, c, c["value"])


def _full(r: Rewriter, c: Call, scalar: Argument) -> Argument | None:
    assert isinstance(scalar, (int, float))
    return r.full(c.shape, scalar, c.dtype)


@_form("aten.arange.default", "aten.arange.start", "aten.arange.start_step", "prims.iota.default")
def _arange(r: Rewriter, c: Call) -> Argument:
    start, step = c.arguments.get("start", 0), c.arguments.get("step", 1)
    return r.emit("hearth.iota", (c.shape[0], start, step), c.shape, c.dtype)


@_form("hearth.rand")
def _rand(r: Rewriter, c: Call) -> Argument:
    args = (c.value("seed"), c.value("step"), c.shape, c["stream"])
    return r.emit("hearth.rand", args, c.shape, c.dtype)


# --------------------------------------------------------------------------------------- reductions


def _axes(c: Call, x: Value) -> list[int]:
    given = c.arguments.get("dim")
    rank = len(x.shape)
    if isinstance(given, int):
        return [given % rank] if rank else []
    if not given:
        return list(range(rank))
    return sorted({a % rank for a in c.integers("dim")}) if rank else []


def _keepdim(c: Call) -> bool:
    return bool(c.arguments.get("keepdim", False))


@_form("aten.sum.default", "aten.sum.dim_IntList")
def _sum(r: Rewriter, c: Call) -> Argument:
    x = r.cast(c.value(), c.dtype)
    return r.reduce("aten.sum.dim_IntList", x, _axes(c, x), _keepdim(c))


@_form("aten.amax.default", "aten.amin.default")
def _extreme(r: Rewriter, c: Call) -> Argument:
    return r.reduce(c.node.target, c.value(), _axes(c, c.value()), _keepdim(c))


@_form("aten.max.default", "aten.min.default")
def _extreme_of_all(r: Rewriter, c: Call) -> Argument:
    target = c.node.target.replace("aten.m", "aten.am")
    return r.reduce(target, c.value(), _axes(c, c.value()), keepdim=False)


@_form(*(f"aten.{name}.{kind}" for name in ("any", "all") for kind in ("default", "dim", "dims")))
def _any_or_all(r: Rewriter, c: Call) -> Argument:
    """The largest or smallest of zeros and ones."""
    x = r.cast(r.cast(c.value(), "bool"), "int32")
    target = "aten.amax.default" if ".any." in c.node.target else "aten.amin.default"
    return r.cast(r.reduce(target, x, _axes(c, x), _keepdim(c)), "bool")


@_form("aten.argmax.default", "aten.argmin.default")
def _arg_extreme(r: Rewriter, c: Call) -> Argument:
    axis = c["dim"]
    axis = axis % len(c.value().shape) if isinstance(axis, int) else None
    return r.emit(c.node.target, (c.value(), axis, _keepdim(c)), c.shape, c.dtype)


# -------------------------------------------------------------------------------------------- views


@_form(
    *("aten.view.default", "aten._unsafe_view.default", "aten.reshape.default"),
    *("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default"),
)
def _reshape(r: Rewriter, c: Call) -> Argument:
    return r.reshape(c.value(), c.shape)


@_form("aten.expand.default")
def _expand(r: Rewriter, c: Call) -> Argument:
    return r.expand(c.value(), c.shape)


@_form("aten.t.default")
def _t(r: Rewriter, c: Call) -> Argument:
    return r.permute(c.value(), tuple(reversed(range(len(c.shape)))))


@_form("aten.transpose.int")
def _transpose(r: Rewriter, c: Call) -> Argument:
    axes = list(range(len(c.shape)))
    a, b = c.integer("dim0"), c.integer("dim1")
    axes[a], axes[b] = axes[b], axes[a]
    return r.permute(c.value(), axes)


@_form("aten.permute.default")
def _permute(r: Rewriter, c: Call) -> Argument:
    return r.permute(c.value(), [a % len(c.shape) for a in c.integers("dims")])


@_form("aten.flip.default")
def _flip(r: Rewriter, c: Call) -> Argument:
    axes = tuple(sorted(a % len(c.shape) for a in c.integers("dims")))
    return r.emit(c.node.target, (c.value(), axes), c.shape, c.dtype)


def _bounds(c: Call, length: int) -> tuple[int, int]:
    """Python's rules for negative and overlong slice bounds."""

    def bound(name: str, default: int) -> int:
        given = c.arguments.get(name)
        position = given if isinstance(given, int) else default
        return min(max(position + length if position < 0 else position, 0), length)

    start, stop = bound("start", 0), bound("end", length)
    return start, max(start, stop)


@_form("aten.slice.Tensor")
def _slice(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    return r.slice(x, axis, *_bounds(c, extents(x)[axis]), c.integer("step"))


@_form("aten.select.int")
def _select(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    position = c.integer("index") % extents(x)[axis]
    return r.reshape(r.slice(x, axis, position, position + 1), c.shape)


def _pieces(r: Rewriter, x: Value, axis: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(r.slice(x, axis, a, a + n) for a, n in zip(starts, sizes, strict=True))


@_form("aten.split.Tensor", "aten.split_with_sizes.default")
def _split(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    sizes = [extents(v)[axis] for v in c.node.results]
    return _pieces(r, x, axis, sizes)


@_form("aten.unbind.int")
def _unbind(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    pieces = _pieces(r, x, axis, [1] * len(c.node.results))
    return tuple(r.reshape(p, c.shape) for p in pieces)


@_form("aten.cat.default")
def _cat(r: Rewriter, c: Call) -> Argument:
    parts = [v for v in c.values("tensors") if extents(v) != (0,)]
    return r.cat(parts, c.integer("dim") % len(c.shape), c.dtype)


@_form("aten.stack.default")
def _stack(r: Rewriter, c: Call) -> Argument:
    axis = c.integer("dim") % len(c.shape)
    shape = tuple(1 if a == axis else e for a, e in enumerate(c.shape))
    return r.cat([r.reshape(v, shape) for v in c.values("tensors")], axis, c.dtype)


@_form("aten.constant_pad_nd.default")
def _constant_pad(r: Rewriter, c: Call) -> Argument:
    x, flat, scalar = c.value(), c.integers("pad"), c["value"]
    assert isinstance(scalar, (int, float))
    last_first = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    amounts = [(0, 0)] * (len(x.shape) - len(last_first)) + last_first[::-1]
    return r.pad(x, amounts, scalar)


@_form("aten.select_backward.default")
def _select_backward(r: Rewriter, c: Call) -> Argument:
    axis = c.integer("dim") % len(c.shape)
    position = c.integer("index") % c.shape[axis]
    thin = tuple(1 if a == axis else e for a, e in enumerate(c.shape))
    amounts = [(0, 0)] * len(c.shape)
    amounts[axis] = (position, c.shape[axis] - position - 1)
    return r.pad(r.reshape(c.value("grad_output"), thin), amounts)


@_form("aten.slice_backward.default")
def _slice_backward(r: Rewriter, c: Call) -> Argument:
    """Zeros around; for a step of s, s - 1 zeros behind every element first."""
    g, axis, step = c.value("grad_output"), c.integer("dim") % len(c.shape), c.integer("step")
    start, _ = _bounds(c, c.shape[axis])
    shape = list(extents(g))
    if step > 1:
        spread = r.pad(
            r.reshape(g, (*shape[: axis + 1], 1, *shape[axis + 1 :])),
            [(0, step - 1 if a == axis + 1 else 0) for a in range(len(shape) + 1)],
        )
        shape[axis] *= step
        g = r.reshape(spread, tuple(shape))
    amounts = [(0, 0)] * len(shape)
    amounts[axis] = (start, c.shape[axis] - start - shape[axis])
    return r.pad(g, amounts)


@_form("aten.slice_scatter.default", "aten.select_scatter.default")
def _scatter(r: Rewriter, c: Call) -> Argument | None:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    length = extents(x)[axis]
    if c.arguments.get("step", 1) != 1:
        return None
    if "index" in c.arguments:
        start = c.integer("index") % length
        stop = start + 1
    else:
        start, stop = _bounds(c, length)
    shape = tuple(stop - start if a == axis else e for a, e in enumerate(extents(x)))
    middle = r.reshape(c.value("src"), shape)
    parts = [r.slice(x, axis, 0, start), middle, r.slice(x, axis, stop, length)]
    return r.cat(parts, axis, c.dtype)


# ------------------------------------------------------------------ contractions, pools and lookups


def _spelled(*names: str) -> Form:
    """The arguments of these names, in this order."""

    def form(r: Rewriter, c: Call) -> Argument:
        args = tuple(c[name] for name in names)
        like = c.node.results
        new = r.emit_many(c.node.target, args, like)
        return new if len(new) > 1 else new[0]

    return form


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


@_form("aten.gather.default")
def _gather(r: Rewriter, c: Call) -> Argument | None:
    if len(c.value().shape) != 1:
        return None
    return r.emit("aten.index_select.default", (c.value(), 0, c["index"]), c.shape, c.dtype)


def _pair(c: Call, name: str) -> tuple[int, ...]:
    given = c.integers(name)
    return given * 2 if len(given) == 1 else given


@_form("aten.max_pool2d_with_indices.default")
def _max_pool(r: Rewriter, c: Call) -> Argument:
    kernel = _pair(c, "kernel_size")
    stride = _pair(c, "stride") or kernel
    args = (c.value(), kernel, stride, _pair(c, "padding"), _pair(c, "dilation"), c["ceil_mode"])
    return r.emit_many(c.node.target, args, c.node.results)


@_form("aten.avg_pool2d.default")
def _avg_pool(r: Rewriter, c: Call) -> Argument:
    kernel = _pair(c, "kernel_size")
    stride = _pair(c, "stride") or kernel
    rest = (c["ceil_mode"], c["count_include_pad"], c["divisor_override"])
    return r.emit(
        c.node.target, (c.value(), kernel, stride, _pair(c, "padding"), *rest), c.shape, c.dtype
    )

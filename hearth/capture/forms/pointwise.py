"""Pointwise operations, casts, creation and reductions."""

from __future__ import annotations

from hearth.capture.graph import Argument, Value
from hearth.capture.opset import BINARY_OPS, BITWISE_OPS, COMPARE_OPS, SHIFT_OPS, UNARY_OPS
from hearth.capture.rewriter import FORMS, Call, Form, Rewriter, extents, form, is_float, promoted

# ---------------------------------------------------------------------------------------- pointwise


def _unary(r: Rewriter, c: Call) -> Argument:
    return r.pointwise(c.node.target, (c.value(),), c.shape, c.dtype, _computed(c))


def _computed(c: Call) -> str:
    """What a function of one tensor is computed in: its own dtype unless the result floats."""
    return c.dtype if is_float(c.dtype) else c.value().dtype


FORMS.update(dict.fromkeys(UNARY_OPS, _unary))


def _binary(target: str, compare: bool) -> Form:
    def computed(r: Rewriter, c: Call) -> Argument:
        a, b = c["self"], c["other"]
        of = promoted((a, b)) if compare else c.dtype
        if c.arguments.get("alpha", 1) != 1:
            b = _times(r, b, c["alpha"], of)
        return r.pointwise(target, (a, b), c.shape, c.dtype, of)

    return computed


def _times(r: Rewriter, x: Argument, factor: Argument, dtype: str) -> Argument:
    if isinstance(x, (int, float)):
        assert isinstance(factor, (int, float))
        return x * factor
    assert isinstance(x, Value)
    return r.pointwise("aten.mul.Tensor", (x, factor), extents(x), dtype, dtype)


for _target in (*BINARY_OPS, *BITWISE_OPS, *SHIFT_OPS, *COMPARE_OPS):
    _made = _binary(_target, compare=_target in COMPARE_OPS)
    for _overload in ("Tensor", "Scalar", "Tensor_Scalar", "Scalar_Tensor"):
        FORMS[_target.replace(".Tensor", f".{_overload}")] = _made


@form("aten.rsub.Scalar", "aten.rsub.Tensor")
def _rsub(r: Rewriter, c: Call) -> Argument:
    subtracted = c["self"] if c["alpha"] == 1 else _times(r, c["self"], c["alpha"], c.dtype)
    return r.pointwise("aten.sub.Tensor", (c["other"], subtracted), c.shape, c.dtype, c.dtype)


@form("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def _div_mode(r: Rewriter, c: Call) -> Argument:
    mode, operands = c["rounding_mode"], (c["self"], c["other"])
    if mode is not None and not is_float(c.dtype):
        if mode == "trunc":  # what is left is divisible
            rest = r.pointwise("aten.fmod.Tensor", operands, c.shape, c.dtype, c.dtype)
            whole = (c["self"], rest)
            operands = (
                r.pointwise("aten.sub.Tensor", whole, c.shape, c.dtype, c.dtype),
                c["other"],
            )
        return r.pointwise("aten.floor_divide.default", operands, c.shape, c.dtype, c.dtype)
    quotient = r.pointwise("aten.div.Tensor", operands, c.shape, c.dtype, c.dtype)
    if mode is None:
        return quotient
    return r.emit(f"aten.{mode}.default", (quotient,), c.shape, c.dtype)


@form("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def _pow(r: Rewriter, c: Call) -> Argument:
    operands = (c["self"], c["exponent"])
    return r.pointwise(c.node.target, operands, c.shape, c.dtype, c.dtype)


@form("aten.where.self", "aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def _where(r: Rewriter, c: Call) -> Argument:
    filled = "mask" in c.arguments
    condition = r.cast(c.value("mask" if filled else "condition"), "bool")
    yes, no = (c["value"], c["self"]) if filled else (c["self"], c["other"])
    inlined = [
        r.scalars.get(a, a) if isinstance(a, Value) and not a.shape else a for a in (yes, no)
    ]
    operands = [r.cast(a, c.dtype) if isinstance(a, Value) else a for a in inlined]
    return r.emit("aten.where.self", (condition, *operands), c.shape, c.dtype)


@form("aten.threshold_backward.default")
def _threshold_backward(r: Rewriter, c: Call) -> Argument:
    operands = (c["grad_output"], c["self"], c["threshold"])
    return r.pointwise(c.node.target, operands, c.shape, c.dtype, c.dtype)


@form("aten.logical_and.default", "aten.logical_or.default", "aten.logical_xor.default")
def _logical(r: Rewriter, c: Call) -> Argument:
    target = c.node.target.replace("logical", "bitwise").replace("default", "Tensor")
    return r.pointwise(target, (c["self"], c["other"]), c.shape, "bool", "bool")


@form("aten.bitwise_not.default")
def _bitwise_not(r: Rewriter, c: Call) -> Argument:
    if c.dtype == "bool":
        return r.emit("aten.logical_not.default", (c.value(),), c.shape, "bool")
    return r.pointwise("aten.sub.Tensor", (-1, c.value()), c.shape, c.dtype, c.dtype)


@form("hearth.index_range")
def _index_range(r: Rewriter, c: Call) -> Argument:
    args = (c.value("y"), c["size"], c["except_value"])
    return r.emit("hearth.index_range", args, c.shape, c.dtype)


@form("hearth.recompute")
def _recompute(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    is_literal = x in r.scalars
    return x if is_literal else r.emit("hearth.recompute", (x, c["region"]), c.shape, c.dtype)


# ---------------------------------------------------------------------- copies, casts and creation


@form(
    *("aten.clone.default", "aten.detach.default", "aten.alias.default"),
    *("aten.lift_fresh.default", "aten.lift_fresh_copy.default", "aten._to_copy.default"),
)
def _copy(r: Rewriter, c: Call) -> Argument:
    return r.cast(c.value(), c.dtype)


@form("aten.copy.default")
def _copy_from(r: Rewriter, c: Call) -> Argument:
    return r.expand(r.cast(c.value("src"), c.dtype), c.shape)


_FILLED = {
    **{f"aten.{name}.default": 0 for name in ("zeros", "zeros_like", "new_zeros", "empty_like")},
    **{f"aten.{name}.default": 0 for name in ("new_empty", "new_empty_strided")},
    **{f"aten.empty.{name}": 0 for name in ("memory_format",)},
    **{f"aten.{name}.default": 1 for name in ("ones", "ones_like", "new_ones")},
}


@form(*_FILLED)
def _filled(r: Rewriter, c: Call) -> Argument:
    return r.full(c.shape, _FILLED[c.node.target], c.dtype)


@form("aten.scalar_tensor.default")
def _scalar_tensor(r: Rewriter, c: Call) -> Argument | None:
    return _full(r, c, c["s"])


@form("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def _full_like(r: Rewriter, c: Call) -> Argument | None:
    return _full(r, c, c["fill_value"])


@form("aten.fill.Scalar")
def _fill(r: Rewriter, c: Call) -> Argument | None:
    return _full(r, c, c["value"])


def _full(r: Rewriter, c: Call, scalar: Argument) -> Argument | None:
    assert isinstance(scalar, (int, float))
    return r.full(c.shape, scalar, c.dtype)


@form("aten.arange.default", "aten.arange.start", "aten.arange.start_step", "prims.iota.default")
def _arange(r: Rewriter, c: Call) -> Argument:
    start, step = c.arguments.get("start", 0), c.arguments.get("step", 1)
    return r.emit("hearth.iota", (c.shape[0], start, step), c.shape, c.dtype)


@form("hearth.rand")
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


@form("aten.sum.default", "aten.sum.dim_IntList")
def _sum(r: Rewriter, c: Call) -> Argument:
    x = r.cast(c.value(), c.dtype)
    return r.reduce("aten.sum.dim_IntList", x, _axes(c, x), _keepdim(c))


@form("aten.prod.default", "aten.prod.dim_int")
def _prod(r: Rewriter, c: Call) -> Argument:
    x = r.cast(c.value(), c.dtype)
    return r.reduce("aten.prod.dim_int", x, _axes(c, x), _keepdim(c))


@form("aten.amax.default", "aten.amin.default")
def _extreme(r: Rewriter, c: Call) -> Argument:
    return r.reduce(c.node.target, c.value(), _axes(c, c.value()), _keepdim(c))


@form("aten.max.default", "aten.min.default")
def _extreme_of_all(r: Rewriter, c: Call) -> Argument:
    target = c.node.target.replace("aten.m", "aten.am")
    return r.reduce(target, c.value(), _axes(c, c.value()), keepdim=False)


@form(*(f"aten.{name}.{kind}" for name in ("any", "all") for kind in ("default", "dim", "dims")))
def _any_or_all(r: Rewriter, c: Call) -> Argument:
    """The largest or smallest of zeros and ones."""
    x = r.cast(r.cast(c.value(), "bool"), "int32")
    target = "aten.amax.default" if ".any." in c.node.target else "aten.amin.default"
    return r.cast(r.reduce(target, x, _axes(c, x), _keepdim(c)), "bool")


@form("aten.argmax.default", "aten.argmin.default")
def _arg_extreme(r: Rewriter, c: Call) -> Argument:
    axis, rank = c["dim"], len(c.value().shape)
    axis = axis % rank if isinstance(axis, int) and rank else None
    return r.emit(c.node.target, (c.value(), axis, _keepdim(c)), c.shape, c.dtype)


@form("aten.max.dim", "aten.min.dim")
def _extreme_and_index(r: Rewriter, c: Call) -> Argument:
    x, keepdim = c.value(), _keepdim(c)
    kind = c.node.target.split(".")[1]
    axes, (values, indices) = _axes(c, x), c.node.results
    largest = r.reduce(f"aten.a{kind}.default", x, axes, keepdim)
    args = (x, axes[0] if axes else None, keepdim)
    return (largest, r.emit(f"aten.arg{kind}.default", args, extents(values), indices.dtype))

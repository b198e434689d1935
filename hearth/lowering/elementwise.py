"""Operations that compute each element by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from hearth.capture.graph import AtenNode
from hearth.ir.dtype import BOOL, DEVICE_DTYPE, FLOAT32, INT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Expr, apply, const
from hearth.lowering.rules import Operand, device_dtype, elementwise, lowers, promoted

_FLOAT_UNARY = (
    *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "erf", "erfc"),
)
_BINARY = ("add.Tensor", "sub.Tensor", "mul.Tensor", "maximum.default", "minimum.default",
           "fmod.Tensor", "remainder.Tensor")  # fmt: skip
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_LOGIC = {"add": "or", "maximum": "or", "mul": "and", "minimum": "and",
          "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "ne"}  # fmt: skip


def _op(name: str) -> Callable[..., Expr]:
    return lambda *args: apply(name, *args)


def _scalar_op(site: AtenNode) -> str:
    """The middle of "aten.add.Tensor"."""
    return site.target.split(".")[1]


@lowers(*(f"aten.{name}.default" for name in _FLOAT_UNARY))
def _float_unary(site: AtenNode, x: Node) -> Node:
    return elementwise(site, _op(_scalar_op(site)), x, of=FLOAT32)


@lowers("aten.reciprocal.default")
def _reciprocal(site: AtenNode, x: Node) -> Node:
    return elementwise(site, lambda a: apply("div", 1.0, a), x, of=FLOAT32)


@lowers("aten.abs.default", "aten.neg.default", "aten.sign.default")
def _signed_unary(site: AtenNode, x: Node) -> Node:
    of = INT32 if x.dtype == BOOL else x.dtype
    return elementwise(site, _op(_scalar_op(site)), x, of=of)


@lowers(*(f"aten.{name}.default" for name in ("floor", "ceil", "round", "trunc")))
def _rounding(site: AtenNode, x: Node) -> Node:
    is_whole = x.dtype != FLOAT32
    return elementwise(site, (lambda a: a) if is_whole else _op(_scalar_op(site)), x)


@lowers("aten.relu.default")
def _relu(site: AtenNode, x: Node) -> Node:
    # `maximum` propagates NaN, as PyTorch's relu does.
    return elementwise(site, _op("maximum"), x, 0)


@lowers("aten.threshold_backward.default")
def _threshold_backward(site: AtenNode, g: Node, x: Node, threshold: Operand) -> Node:
    def choose(grad: Expr, value: Expr, limit: Expr) -> Expr:
        return apply("where", apply("le", value, limit), const(0, grad.dtype), grad)

    return elementwise(site, choose, g, x, threshold)


@lowers("aten.isnan.default")
def _isnan(site: AtenNode, x: Node) -> Node:
    return elementwise(site, _op("is_nan"), x, of=FLOAT32)


@lowers("aten.isinf.default")
def _isinf(site: AtenNode, x: Node) -> Node:
    return elementwise(site, lambda a: apply("eq", apply("abs", a), math.inf), x, of=FLOAT32)


@lowers("aten.logical_not.default")
def _logical_not(site: AtenNode, x: Node) -> Node:
    return elementwise(site, _op("not"), x, of=BOOL)


@lowers(*(f"aten.{name}" for name in _BINARY))
def _binary(site: AtenNode, a: Operand, b: Operand) -> Node:
    of = promoted(a, b)
    name = _scalar_op(site)
    if of == BOOL and device_dtype(site) == BOOL:
        return elementwise(site, _op(_LOGIC[name]), a, b)
    return elementwise(site, _op(name), a, b, of=INT32 if of == BOOL else of)


@lowers("aten.div.Tensor")
def _div(site: AtenNode, a: Operand, b: Operand) -> Node:
    return elementwise(site, _op("div"), a, b, of=FLOAT32)


@lowers("aten.atan2.default")
def _atan2(site: AtenNode, y: Operand, x: Operand) -> Node:
    return elementwise(site, _op("atan2"), y, x, of=FLOAT32)


@lowers(*(f"aten.{name}.Tensor" for name in _COMPARE))
def _compare(site: AtenNode, a: Operand, b: Operand) -> Node:
    of = promoted(a, b)
    name = _scalar_op(site)
    is_ordered = of == BOOL and name not in ("eq", "ne")
    return elementwise(site, _op(name), a, b, of=INT32 if is_ordered else of)


@lowers(*(f"aten.bitwise_{name}.Tensor" for name in ("and", "or", "xor")))
def _bitwise(site: AtenNode, a: Operand, b: Operand) -> Node:
    name = _scalar_op(site)
    of = promoted(a, b)
    return elementwise(site, _op(_LOGIC[name] if of == BOOL else name.replace("wise", "")), a, b)


@lowers("aten.bitwise_left_shift.Tensor", "aten.bitwise_right_shift.Tensor")
def _shift(site: AtenNode, a: Operand, b: Operand) -> Node:
    """PyTorch's rule for distances that the device leaves undefined: all bits are moved out."""
    is_left = "left" in site.target

    def shift(x: Expr, distance: Expr) -> Expr:
        outside = apply("or", apply("lt", distance, 0), apply("gt", distance, 31))
        if is_left:
            held = apply("where", outside, const(0, INT32), distance)
            return apply("where", outside, const(0, INT32), apply("shift_left", x, held))
        return apply("shift_right", x, apply("where", outside, const(31, INT32), distance))

    return elementwise(site, shift, a, b, of=INT32)


@lowers("aten.floor_divide.default")
def _floor_divide(site: AtenNode, a: Operand, b: Operand) -> Node:
    return elementwise(site, _op("floor_div"), a, b, of=INT32)


@lowers("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def _pow(site: AtenNode, x: Operand, exponent: Operand) -> Node:
    if device_dtype(site) == FLOAT32:
        return elementwise(site, _op("pow"), x, exponent, of=FLOAT32)
    return elementwise(site, _integer_power, x, exponent, of=INT32)


def _integer_power(x: Expr, n: Expr) -> Expr:
    """Square and multiply over the 31 bits of the exponent; wraps around.

    A negative exponent gives the truncated fraction: 1 and -1 keep their powers, others give 0.
    """
    one, zero = const(1, INT32), const(0, INT32)
    is_unit = apply("eq", apply("mul", x, x), one)
    size = apply("abs", n)
    result: Expr = one
    square = x
    for bit in range(31):
        is_set = apply("ne", apply("bit_and", size, 1 << bit), zero)
        result = apply("where", is_set, apply("mul", result, square), result)
        square = apply("mul", square, square)
    vanishes = apply("and", apply("lt", n, zero), apply("not", is_unit))
    return apply("where", vanishes, zero, result)


@lowers("aten.where.self")
def _where(site: AtenNode, condition: Node, a: Operand, b: Operand) -> Node:
    of = device_dtype(site)
    return elementwise(site, _op("where"), condition, a, b, of=(BOOL, of, of))


@lowers("hearth.cast")
def _cast(site: AtenNode, x: Node, dtype: str) -> Node:
    if x.dtype == FLOAT32 == DEVICE_DTYPE[dtype]:
        return x  # a half is rounded by `lower`, and is a float as it is
    return elementwise(site, lambda a: a, x, of=DEVICE_DTYPE[dtype])


@lowers("hearth.index_range")
def _index_range(_: AtenNode, y: Node, *__: Operand) -> Node:
    return y  # the promise itself is read by `lower`

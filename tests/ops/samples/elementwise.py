"""Element by element: arithmetic, comparisons, conversions."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from tests.ops.samples.sample import Samples, bools, floats, gradient, ints, ties

SAMPLES = Samples()
add = SAMPLES.add

_DOMAIN = {
    "acosh": (1, 5), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1),
    "log": (-0.5, 5), "log2": (0, 5), "log10": (0, 5), "log1p": (-1.5, 5),
    "sqrt": (-0.5, 5), "rsqrt": (-0.5, 5),
}  # fmt: skip
_FLOAT_UNARY = (
    "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "sin", "cos",
    "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid",
    "erf", "erfc",
)  # fmt: skip

for _name in _FLOAT_UNARY:
    _low, _high = _DOMAIN.get(_name, (-3, 3))
    _function = getattr(torch, _name)
    add(f"aten.{_name}.default", "", _function, floats("B", 7, low=_low, high=_high))
add("aten.exp.default", "of int", torch.exp, ints("B", 7))
add("aten.exp.default", "of a 0-d tensor", torch.exp, floats())
for _name in ("abs", "neg", "sign"):
    add(f"aten.{_name}.default", "", getattr(torch, _name), floats("B", 5))
    add(f"aten.{_name}.default", "of int", getattr(torch, _name), ints("B", 5))
for _name in ("floor", "ceil", "round", "trunc"):
    _function = getattr(torch, _name)
    add(f"aten.{_name}.default", "", _function, floats("B", 5))
    add(f"aten.{_name}.default", "halves", lambda x, f=_function: f(x / 2), ties("B", 5))
add("aten.relu.default", "", torch.relu, floats("B", 5))
add("aten.relu.default", "of NaN", lambda x: torch.relu(torch.log(x)), floats("B", 5))
add("aten.relu.default", "of int", torch.relu, ints("B", 5))
add("aten.threshold_backward.default", "", gradient(torch.relu), floats("B", 5))
add("aten.isnan.default", "", lambda x: torch.log(x).isnan(), floats("B", 5))
add("aten.isinf.default", "", lambda x: torch.isinf(torch.log(x.round())), ties("B", 5))
add("aten.logical_not.default", "of bool", torch.logical_not, bools("B", 5))
add("aten.logical_not.default", "of float", torch.logical_not, ties("B", 5))

_BROADCAST = (
    ("same shape", (("B", 5), ("B", 5))),
    ("a row", (("B", 3, 5), (5,))),
    ("a column", ((3, 1), ("B", 1, 5))),
    ("a 0-d tensor", (("B", 5), ())),
)
for _name in ("add", "sub", "mul", "div", "maximum", "minimum", "atan2", "fmod", "remainder"):
    _overload = "default" if _name in ("maximum", "minimum", "atan2") else "Tensor"
    _function = getattr(torch, _name)
    for _label, (_a, _b) in _BROADCAST:
        add(f"aten.{_name}.{_overload}", _label, _function, floats(*_a), floats(*_b))
for _name in ("add", "sub", "mul", "maximum", "minimum"):
    _overload = "default" if _name in ("maximum", "minimum") else "Tensor"
    add(f"aten.{_name}.{_overload}", "of int", getattr(torch, _name), ints("B", 5), ints(5))
for _name in ("add", "mul", "maximum", "minimum"):
    _overload = "default" if _name in ("maximum", "minimum") else "Tensor"
    add(f"aten.{_name}.{_overload}", "of bool", getattr(torch, _name), bools("B", 5), bools(5))
for _name in ("fmod", "remainder"):
    _function = getattr(torch, _name)
    add(f"aten.{_name}.Tensor", "of int", _function, ints("B", 5), ints(5, low=1))
    add(f"aten.{_name}.Tensor", "by -4", lambda x, f=_function: f(x, -4), ints("B", 5))
    add(f"aten.{_name}.Tensor", "by a number", lambda x, f=_function: f(x, -0.7), floats("B", 5))
add("aten.add.Tensor", "a number", lambda x: x + 2, floats("B", 5))
add("aten.add.Tensor", "alpha", lambda x, y: torch.add(x, y, alpha=0.3), floats("B", 5), floats(5))
add("aten.add.Tensor", "int and float", lambda x, y: x + y, ints("B", 5), floats(5))
add("aten.add.Tensor", "wraps", lambda x: (x * 2**30 + x * 2**30).to(torch.int32),
    ints("B", 5, low=0, high=1))  # fmt: skip
add("aten.sub.Tensor", "from a number", lambda x: 1 - x, floats("B", 5))
add("aten.mul.Tensor", "bool and float", lambda m, y: m * y, bools("B", 5), floats(5))
add("aten.mul.Tensor", "by a number that depends on B", lambda x: x.mean(0) * x.shape[0],
    floats("B", 5))  # fmt: skip
add("aten.mul.Tensor", "int by the batch size", lambda x: x * (3 * x.shape[0] + 1), ints("B", 5))
add("aten.div.Tensor", "by a number", lambda x: x / 3, floats("B", 5))
add("aten.div.Tensor", "of int", lambda x, y: x / y, ints("B", 5), ints(5, low=1))
add("aten.div.Tensor", "by zero", lambda x: x / torch.zeros_like(x), ties("B", 5))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _function = getattr(torch, _name)
    add(f"aten.{_name}.Tensor", "", _function, ties("B", 7), ties(7))
    add(f"aten.{_name}.Tensor", "of int", _function, ints("B", 7), ints(7))
    add(f"aten.{_name}.Tensor", "of bool", _function, bools("B", 7), bools(7))
    add(f"aten.{_name}.Tensor", "with a number", lambda x, f=_function: f(x, 1), ties("B", 7))
    add(f"aten.{_name}.Tensor", "int with half", lambda x, f=_function: f(x, 1.5), ints("B", 7))
    add(f"aten.{_name}.Tensor", "with NaN", lambda x, f=_function: f(x, torch.log(x)),
        floats("B", 7))  # fmt: skip
for _name in ("and", "or", "xor"):
    _function = getattr(torch, f"bitwise_{_name}")
    add(f"aten.bitwise_{_name}.Tensor", "of bool", _function, bools("B", 7), bools(7))
    add(f"aten.bitwise_{_name}.Tensor", "of int", _function, ints("B", 7), ints(7))
for _name in ("left", "right"):
    _function = getattr(torch, f"bitwise_{_name}_shift")
    add(f"aten.bitwise_{_name}_shift.Tensor", "", _function, ints("B", 7), ints(7, low=0))
    add(f"aten.bitwise_{_name}_shift.Tensor", "all bits", lambda x, f=_function: f(x, 64),
        ints("B", 7))  # fmt: skip
for _mode in ("floor", "trunc"):
    _function = functools.partial(torch.div, rounding_mode=_mode)
    add("aten.floor_divide.default", _mode, _function, ints("B", 7), ints(7, low=1))
    add("aten.floor_divide.default", f"{_mode}, negative", lambda x, f=_function: f(x, -3),
        ints("B", 7))  # fmt: skip
    add("aten.div.Tensor", _mode, _function, floats("B", 7), floats(7))
for _exponent in (0, 1, 2, 3, 4, 5, -1, -2, 0.5, 1.7):
    add("aten.pow.Tensor_Scalar", f"{_exponent}", lambda x, e=_exponent: torch.ops.aten.pow(x, e),
        floats("B", 7, low=0.2))  # fmt: skip
add(
    "aten.pow.Tensor_Scalar",
    "of negative numbers",
    lambda x: torch.ops.aten.pow(x, 3.0),
    floats("B", 7),
)
add(
    "aten.pow.Tensor_Scalar",
    "of int",
    lambda x: torch.ops.aten.pow(x, 7),
    ints("B", 7, low=-4, high=5),
)
add("aten.pow.Tensor_Tensor", "", torch.pow, floats("B", 7, low=0), floats(7))
add("aten.pow.Tensor_Tensor", "of int", torch.pow, ints("B", 7, low=-4, high=5), ints(7, low=0))
add("aten.pow.Scalar", "", lambda x: 0.9**x, floats("B", 7))
add("aten.pow.Scalar", "bias correction", lambda t: 1 - 0.999**t, floats(low=1, high=99))
add("aten.pow.Scalar", "of int", lambda x: 3**x, ints("B", 7, low=0, high=9))
add("aten.where.self", "", torch.where, bools("B", 5), floats("B", 5), floats(5))
add("aten.where.self", "numbers", lambda c: torch.where(c, 1.5, -2.0), bools("B", 5))
add("aten.where.self", "mask", lambda x, m: x.masked_fill(m, -torch.inf), floats("B", 5), bools(5))
add("aten.where.self", "of int", lambda c, x: torch.where(c, x, 7), bools("B", 5), ints(5))
add("aten.where.self", "of bool", torch.where, bools("B", 5), bools("B", 5), bools(5))
for _dtype in (torch.int64, torch.int32, torch.int16, torch.int8):
    add("hearth.cast", f"float to {_dtype}", lambda x, d=_dtype: x.to(d).long(), floats("B", 5))
for _dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.bool):
    add("hearth.cast", f"{_dtype} to float", lambda x, d=_dtype: (x > 0).to(d).to(x.dtype),
        floats("B", 5))  # fmt: skip
for _dtype in (torch.float16, torch.bfloat16):
    add("hearth.cast", f"float to {_dtype}", lambda x, d=_dtype: x.to(d).to(x.dtype),
        floats("B", 5))  # fmt: skip
    add("hearth.cast", f"sums in {_dtype}", lambda x, d=_dtype: (x.to(d) * x.to(d)).to(x.dtype),
        floats("B", 5))  # fmt: skip
add("hearth.cast", "float to bool", lambda x: x.to(torch.bool), ties("B", 5))
add("hearth.cast", "int8 wraps around", lambda x: ((x * 97).to(torch.int8) * 3).long(),
    ints("B", 5))  # fmt: skip
add("hearth.cast", "uint8 wraps around", lambda x: (x * 97).to(torch.uint8).long(), ints("B", 5))
add("hearth.cast", "int16 wraps around", lambda x: (x * 9999).to(torch.int16).long(), ints("B", 5))
add(
    "hearth.recompute",
    "checkpoint",
    gradient(lambda x, w: checkpoint(lambda t: F.linear(t, w).tanh(), x, use_reentrant=False)),
    floats("B", 5),
    floats(7, 5),
)
add("hearth.index_range", "", F.cross_entropy, floats("B", 5),
    ints("B", low=0, high=5))  # fmt: skip
add("hearth.index_range", "ignored", lambda x, y: F.cross_entropy(x, y, ignore_index=2),
    floats("B", 5), ints("B", low=0, high=5))  # fmt: skip

"""One row per lowered operation and way of calling it: a small PyTorch function and its inputs.

The function is the oracle (eager, float64) and what is captured.  Extents are primes so that no
two can be confused; "B" is the batch.  A rule without a row here fails the suite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

Extent = int | Literal["B"]
aten = torch.ops.aten


@dataclass(frozen=True)
class Tensor:
    """Random values of a kind in [low, high); "B" as the first extent is the batch."""

    kind: str
    shape: tuple[Extent, ...]
    low: float = -3
    high: float = 3

    @property
    def batched(self) -> bool:
        return self.shape[:1] == ("B",)

    def draw(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        shape = tuple(batch if e == "B" else e for e in self.shape)
        uniform = torch.rand(shape, dtype=torch.float64, generator=generator)
        values = uniform * (self.high - self.low) + self.low
        if self.kind == "float":
            return values
        if self.kind == "bool":
            return uniform < 0.5
        if self.kind == "ties":  # few different values, so that maxima repeat
            return values.round()
        return values.floor().long()


def floats(*shape: Extent, low: float = -3, high: float = 3) -> Tensor:
    return Tensor("float", shape, low, high)


def ties(*shape: Extent) -> Tensor:
    return Tensor("ties", shape, -2, 2)


def ints(*shape: Extent, low: int = -9, high: int = 9) -> Tensor:
    return Tensor("int", shape, low, high)


def bools(*shape: Extent) -> Tensor:
    return Tensor("bool", shape)


@dataclass(frozen=True)
class Sample:
    op: str
    function: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    label: str = ""

    def draw(self, batch: int, seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [i.draw(batch, generator) for i in self.inputs]

    def __str__(self) -> str:
        return f"{self.op} {self.label}".strip()


SAMPLES: list[Sample] = []


def add(op: str, label: str, function: Callable[..., Any], *inputs: Tensor) -> None:
    SAMPLES.append(Sample(op, function, inputs, label))


def gradient(function: Callable[..., torch.Tensor], weight: float = 0.7) -> Callable[..., Any]:
    """All gradients of a smooth scalar of the function's result."""

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in tensors]
        wanted = [t for t in leaves if t.requires_grad]
        y = function(*leaves)
        return torch.autograd.grad((y * (y * weight + 1)).sum(), wanted)

    return run


# ---------------------------------------------------------------- element by element

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
    add("aten.pow.Tensor_Scalar", f"{_exponent}", lambda x, e=_exponent: aten.pow(x, e),
        floats("B", 7, low=0.2))  # fmt: skip
add("aten.pow.Tensor_Scalar", "of negative numbers", lambda x: aten.pow(x, 3.0), floats("B", 7))
add("aten.pow.Tensor_Scalar", "of int", lambda x: aten.pow(x, 7), ints("B", 7, low=-4, high=5))
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

# ---------------------------------------------------------------- reductions

for _axes in ((0,), (1,), (-1,), (0, 2), (0, 1, 2)):
    for _keep in (False, True):
        _label = f"over {_axes}{' kept' if _keep else ''}"
        _kwargs = {"dim": _axes, "keepdim": _keep}
        for _name, _op in (("sum", "sum.dim_IntList"), ("amax", "amax.default"),
                           ("amin", "amin.default")):  # fmt: skip
            _function = functools.partial(getattr(torch, _name), **_kwargs)
            add(f"aten.{_op}", _label, _function, floats("B", 3, 5))
for _axis in (0, 1, 2):
    add("aten.prod.dim_int", f"over {_axis}", lambda x, a=_axis: x.prod(a), floats("B", 3, 5))
add("aten.prod.dim_int", "over all", torch.prod, floats(3, 5))
add("aten.prod.dim_int", "of int", lambda x: x.prod(1), ints("B", 5))
add("aten.prod.dim_int", "of bool", lambda x: x.prod(1), bools("B", 3))
add("aten.sum.dim_IntList", "of int", torch.sum, ints("B", 5))
add("aten.sum.dim_IntList", "of bool", lambda x: x.sum(1), bools("B", 5))
add("aten.sum.dim_IntList", "a mean", lambda x: x.mean(), floats("B", 5))
add("aten.sum.dim_IntList", "a variance", lambda x: x.var(0), floats("B", 5))
add("aten.amax.default", "of NaN", lambda x: torch.amax(torch.log(x), 1), floats("B", 5))
add("aten.amin.default", "of NaN", lambda x: torch.amin(torch.log(x), 1), floats("B", 5))
add("aten.amax.default", "of int", lambda x: torch.amax(x, 1), ints("B", 5))
add("aten.amax.default", "any", lambda x: x.any(1), bools("B", 3))
add("aten.amin.default", "all", lambda x: x.all(1), bools("B", 3))
for _name in ("argmax", "argmin"):
    _function = getattr(torch, _name)
    add(f"aten.{_name}.default", "with ties", lambda x, f=_function: f(x, 1), ties("B", 11, 3))
    add(f"aten.{_name}.default", "kept", lambda x, f=_function: f(x, -1, True), ties("B", 11))
    add(f"aten.{_name}.default", "over the batch", lambda x, f=_function: f(x, 0), ties("B", 3))
    add(f"aten.{_name}.default", "over all", _function, ties("B", 3))
    add(f"aten.{_name}.default", "of NaN", lambda x, f=_function: f(torch.log(x), 1),
        floats("B", 5))  # fmt: skip
    add(f"aten.{_name}.default", "of int", lambda x, f=_function: f(x, 1), ints("B", 5))

# ---------------------------------------------------------------- views and creation

add("aten.reshape.default", "", lambda x: x.reshape(x.shape[0], 15), floats("B", 3, 5))
add("aten.reshape.default", "merges the batch", lambda x: x.reshape(-1, 5), floats("B", 3, 5))
add("aten.reshape.default", "new axes", lambda x: x[:, None, :, None], floats("B", 3))
add("aten.permute.default", "", lambda x: x.permute(2, 0, 1) * 1, floats("B", 3, 5))
add("aten.permute.default", "transpose", lambda x: x.transpose(-1, -2), floats("B", 3, 5))
add("aten.expand.default", "", lambda x: x.expand(-1, 3, 5), floats("B", 1, 5))
add("aten.expand.default", "a new axis", lambda x: x.expand(2, *x.shape), floats("B", 3))
add("aten.expand.default", "to the batch", lambda x, w: w.expand(x.shape[0], 5), floats("B", 5),
    floats(5))  # fmt: skip
add("aten.slice.Tensor", "", lambda x: x[:, 1:4], floats("B", 7))
add("aten.slice.Tensor", "with a step", lambda x: x[:, 1:6:2], floats("B", 7))
add("aten.slice.Tensor", "negative", lambda x: x[:, -3:-1], floats("B", 7))
add("aten.slice.Tensor", "select", lambda x: x[:, -2], floats("B", 7))
add("aten.slice.Tensor", "in the doubled batch", lambda x: torch.cat([x, -x])[x.shape[0] :],
    floats("B", 3))  # fmt: skip
add("aten.flip.default", "", lambda x: x.flip(1), floats("B", 7))
add("aten.flip.default", "the batch too", lambda x: x.flip(0, -1), floats("B", 3, 5))
add("aten.cat.default", "", lambda x, y: torch.cat([x, y, x * 2], 1), floats("B", 3),
    floats("B", 5))  # fmt: skip
add("aten.cat.default", "along the batch", lambda x, y: torch.cat([x, y]), floats("B", 3),
    floats("B", 3))  # fmt: skip
add("aten.cat.default", "stack", lambda x, y: torch.stack([x, y], -1), floats("B", 3),
    floats("B", 3))  # fmt: skip
add("aten.cat.default", "of int", lambda x, y: torch.cat([x, y], -1), ints("B", 3), ints("B", 2))
add("aten.cat.default", "of bool", lambda x, y: torch.cat([x, y], -1), bools("B", 3),
    bools("B", 2))  # fmt: skip
add("aten.constant_pad_nd.default", "", lambda x: F.pad(x, (1, 2)), floats("B", 5))
add("aten.constant_pad_nd.default", "with a value", lambda x: F.pad(x, (0, 1, 2, 0), value=-3.5),
    floats("B", 3, 5))  # fmt: skip
add("aten.constant_pad_nd.default", "negative", lambda x: F.pad(x, (-1, 2)), floats("B", 5))
add("aten.full.default", "", lambda x: torch.full((x.shape[0], 5), 2.5), floats("B", 5))
add("aten.full.default", "of int", lambda x: torch.ones(3, dtype=torch.int64) * x, ints("B", 3))
add("hearth.iota", "", lambda x: x * torch.arange(5), floats("B", 5))
add("hearth.iota", "start and step", lambda x: x * torch.arange(3, 18, 3), floats("B", 5))
add("hearth.iota", "floats", lambda x: x + torch.arange(0.5, 3, 0.5, dtype=x.dtype), floats("B", 5))
add("hearth.iota", "of the batch", lambda x: x * torch.arange(x.shape[0])[:, None], floats("B", 5))

# ---------------------------------------------------------------- contractions

add("aten.mm.default", "", torch.mm, floats("B", 5), floats(5, 7))
add("aten.mm.default", "of int", torch.mm, ints("B", 5), ints(5, 7))
add("aten.mm.default", "transposed", lambda x, w: x @ w.t(), floats("B", 5), floats(7, 5))
add("aten.mm.default", "of the batch", lambda x, y: x.t() @ y, floats("B", 5), floats("B", 7))
add("aten.mm.default", "linear", F.linear, floats("B", 5), floats(7, 5), floats(7))
add("aten.mm.default", "linear, gradient", gradient(F.linear), floats("B", 5), floats(7, 5),
    floats(7))  # fmt: skip
add("aten.mm.default", "a vector", lambda x, v: x @ v, floats("B", 5), floats(5))
add("aten.bmm.default", "", torch.bmm, floats("B", 3, 5), floats("B", 5, 7))
add("aten.bmm.default", "gradient", gradient(torch.bmm), floats("B", 3, 5), floats("B", 5, 7))
add("aten.bmm.default", "bilinear", F.bilinear, floats("B", 3), floats("B", 5), floats(7, 3, 5),
    floats(7))  # fmt: skip
add("aten.bmm.default", "bilinear, gradient", gradient(F.bilinear), floats("B", 3), floats("B", 5),
    floats(7, 3, 5), floats(7))  # fmt: skip
add("aten.bmm.default", "transposed", lambda a, b: a @ b.mT, floats("B", 3, 5), floats("B", 7, 5))

_CONVOLUTIONS: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("stride", {"stride": (2, 3)}),
    ("padding", {"padding": (1, 2)}),
    ("dilation", {"dilation": (2, 1)}),
    ("all", {"stride": 2, "padding": (2, 1), "dilation": (1, 2)}),
    ("groups", {"groups": 2, "padding": 1}),
    ("leftover rows", {"stride": 3, "padding": 1}),
]
for _label, _options in _CONVOLUTIONS:
    _groups = _options.get("groups", 1)
    _inputs = (floats("B", 4, 11, 7), floats(6, 4 // _groups, 3, 2), floats(6))

    def _convolve(x: Any, w: Any, b: Any, k: dict[str, Any] = _options) -> Any:
        return F.conv2d(x, w, b, **k)

    add("aten.convolution.default", _label, _convolve, *_inputs)
    add("hearth.conv_input_grad", _label, gradient(_convolve), *_inputs)
    add("hearth.conv_weight_grad", _label, gradient(_convolve), *_inputs)
add("aten.convolution.default", "depthwise", lambda x, w: F.conv2d(x, w, groups=5),
    floats("B", 5, 7, 7), floats(5, 1, 3, 3))  # fmt: skip
add("aten.convolution.default", "1-d", lambda x, w: F.conv1d(x, w, padding=1, stride=2),
    floats("B", 3, 11), floats(5, 3, 3))  # fmt: skip
add("aten.convolution.default", "3-d", lambda x, w: F.conv3d(x, w, padding=1),
    floats("B", 2, 3, 5, 3), floats(3, 2, 2, 3, 2))  # fmt: skip
add("hearth.conv_weight_grad", "1-d",
    gradient(lambda x, w: F.conv1d(x, w, padding=1, stride=2)), floats("B", 3, 11),
    floats(5, 3, 3))  # fmt: skip
add("hearth.conv_input_grad", "3-d", gradient(lambda x, w: F.conv3d(x, w, stride=2)),
    floats("B", 2, 3, 5, 3), floats(3, 2, 2, 3, 2))  # fmt: skip

_TRANSPOSED: list[tuple[str, dict[str, Any]]] = [
    ("transposed", {}),
    ("transposed, stride", {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
    ("transposed, dilation", {"dilation": 2, "stride": 3, "output_padding": 2}),
    ("transposed, large output padding", {"dilation": 3, "stride": 2, "output_padding": 2}),
    ("transposed, groups", {"groups": 2, "stride": 2}),
]
for _label, _options in _TRANSPOSED:
    _groups = _options.get("groups", 1)
    _inputs = (floats("B", 4, 5, 3), floats(4, 6 // _groups, 3, 2), floats(6))

    def _transpose(x: Any, w: Any, b: Any, k: dict[str, Any] = _options) -> Any:
        return F.conv_transpose2d(x, w, b, **k)

    add("aten.convolution.default", _label, _transpose, *_inputs)
    add("hearth.conv_input_grad", _label, gradient(_transpose), *_inputs)
    add("hearth.conv_weight_grad", _label, gradient(_transpose), *_inputs)

# ---------------------------------------------------------------- pooling

_POOLS: list[tuple[str, dict[str, Any]]] = [
    ("2", {"kernel_size": 2}),
    ("tiles with a rest", {"kernel_size": 3}),
    ("overlapping", {"kernel_size": 3, "stride": 2}),
    ("padding", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("uneven", {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0)}),
    ("ceil", {"kernel_size": 2, "ceil_mode": True}),
    ("ceil with padding", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
]
_MAX_POOLS = [
    *_POOLS,
    ("dilation", {"kernel_size": 2, "stride": 1, "dilation": 3}),
    ("dilation with padding", {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1}),
]
for _label, _options in _MAX_POOLS:

    def _max_pool(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool2d(x, **k)

    def _max_pool_indices(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool2d(x, return_indices=True, **k)

    _op = "aten.max_pool2d_with_indices.default"
    add(_op, _label, _max_pool_indices, floats("B", 3, 11, 7))
    add(_op, f"{_label}, ties", _max_pool_indices, ties("B", 3, 11, 7))
    # Of several NaN in one window we choose the first and PyTorch the last: compare the values.
    add(_op, f"{_label}, NaN", lambda x, f=_max_pool: f(torch.log(x + 2)), floats("B", 3, 11, 7))
    add(_op, f"{_label}, -inf", lambda x, f=_max_pool_indices: f(x * 0 - torch.inf),
        floats("B", 1, 11, 7))  # fmt: skip
    add("hearth.max_pool_grad", _label, gradient(_max_pool), floats("B", 3, 11, 7))
    add("hearth.max_pool_grad", f"{_label}, ties", gradient(_max_pool), ties("B", 3, 11, 7))
_AVG_POOLS = [
    *_POOLS,
    ("padding left out", {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    ("divisor", {"kernel_size": 2, "stride": 1, "divisor_override": 3}),
    ("ceil, padding left out", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True,
                                "count_include_pad": False}),
]  # fmt: skip
for _label, _options in _AVG_POOLS:

    def _avg_pool(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.avg_pool2d(x, **k)

    add("aten.avg_pool2d.default", _label, _avg_pool, floats("B", 3, 11, 7))
    add("hearth.avg_pool_grad", _label, gradient(_avg_pool), floats("B", 3, 11, 7))

for _divisor in (None, 4, -2):
    add("aten.avg_pool2d.default", f"integers over {_divisor}",
        lambda x, d=_divisor: F.avg_pool2d(x, 3, 2, 1, divisor_override=d),
        ints("B", 3, 11, 7, low=-99, high=99))  # fmt: skip

_VOLUMES: list[tuple[str, dict[str, Any]]] = [
    ("tiles with a rest", {"kernel_size": 2}),
    ("padding", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("uneven, ceil", {"kernel_size": (2, 3, 1), "stride": (3, 1, 2), "padding": (1, 0, 0),
                      "ceil_mode": True}),
]  # fmt: skip
for _label, _options in _VOLUMES:

    def _max_volume(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool3d(x, **k)

    def _max_volume_indices(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool3d(x, return_indices=True, **k)

    def _avg_volume(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.avg_pool3d(x, count_include_pad=False, **k)

    _volume, _label = floats("B", 2, 5, 7, 3), f"volume, {_label}"
    add("aten.max_pool3d_with_indices.default", _label, _max_volume_indices, _volume)
    add("aten.avg_pool3d.default", _label, _avg_volume, _volume)
    add("hearth.max_pool_grad", _label, gradient(_max_volume), _volume)
    add("hearth.avg_pool_grad", _label, gradient(_avg_volume), _volume)

for _label, _options in (
    ("dense", {"kernel_size": 3}),
    ("sparse", {"kernel_size": (2, 3), "stride": (3, 2), "padding": (1, 2), "dilation": (2, 1)}),
):

    def _columns(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.unfold(x, **k)

    add("hearth.window", _label, _columns, floats("B", 3, 11, 7))
add("hearth.window", "one axis", lambda x: x.unfold(1, 3, 2), floats("B", 11, 5))

# ---------------------------------------------------------------- lookups and randomness

add("aten.index_select.default", "embedding", F.embedding, ints("B", low=0, high=7), floats(7, 3))
add("aten.index_select.default", "embedding of a sequence", F.embedding,
    ints("B", 5, low=0, high=7), floats(7, 3))  # fmt: skip
add("aten.index_select.default", "axis 1", lambda x, i: x.index_select(-1, i), floats("B", 7),
    ints(3, low=0, high=7))  # fmt: skip
add("hearth.index_add", "embedding, gradient", gradient(F.embedding), ints("B", 5, low=0, high=7),
    floats(7, 3))  # fmt: skip
add("aten.gather.default", "", lambda x, i: x.gather(1, i), floats("B", 7, 3),
    ints("B", 4, 3, low=0, high=7))  # fmt: skip
add("aten.gather.default", "gradient", lambda x, i: gradient(lambda y: y.gather(1, i))(x),
    floats("B", 7), ints("B", 4, low=0, high=7))  # fmt: skip
for _label, _extent in (("", 11), ("long", 1031)):
    add("hearth.order", f"{_label} ties", lambda x: x.sort(dim=1, stable=True), ties("B", _extent))
    add("hearth.order", f"{_label} down, NaN", lambda x: torch.log(x).sort(dim=1, descending=True,
        stable=True), floats("B", _extent))  # fmt: skip
    add("hearth.order", f"{_label} of int", lambda x: x.sort(dim=1, stable=True),
        ints("B", _extent))  # fmt: skip
    add("hearth.order", f"{_label} topk, gradient", gradient(lambda x: x.topk(3)[0]),
        floats("B", _extent))  # fmt: skip
add("hearth.order", "of the batch", lambda x: x.sort(dim=0, stable=True), ties("B", 3))
add("aten.gather.default", "scatter", lambda x, i: x.scatter(1, i, i * 0.5), floats("B", 7),
    ints("B", 11, low=0, high=7))  # fmt: skip
for _kind, _scan in (("sum", torch.cumsum), ("prod", torch.cumprod), ("max", torch.cummax),
                     ("min", torch.cummin), ("logsumexp", torch.logcumsumexp)):  # fmt: skip
    add("hearth.scan", _kind, lambda x, f=_scan: f(x, 1), floats("B", 7, 3))
    add("hearth.scan", f"{_kind} of the batch", lambda x, f=_scan: f(x, 0), floats("B", 3))
    add("hearth.scan", f"{_kind} in blocks", lambda x, f=_scan: f(x, 1),
        floats("B", 67, low=-1.2, high=1.2))  # fmt: skip
    add("hearth.scan", f"{_kind} of NaN", lambda x, f=_scan: f(torch.log(x + 2), 1),
        floats("B", 67))  # fmt: skip
add("hearth.scan", "sum of int", lambda x: x.cumsum(1), ints("B", 67))
add("hearth.scan", "max of int", lambda x: x.cummax(1), ints("B", 67))
add("hearth.rand", "dropout", lambda x: F.dropout(x, 0.4), floats("B", 5))
add("hearth.rand", "two streams", lambda x: (F.dropout(x, 0.4), torch.rand_like(x)),
    floats("B", 5))  # fmt: skip

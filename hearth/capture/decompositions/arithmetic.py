"""Arithmetic of numbers and their signs: division modes, powers of two, divisors of integers."""

from __future__ import annotations

import math
from typing import Any

import torch

from hearth.capture.decompositions.products import scaled
from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Scalar = float | int
_EUCLID_STEPS = 47  # consecutive Fibonacci numbers below 2**31 take the most
_BINARY_EXPONENTS = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)


@rule(aten.signbit.default)
def signbit(x: Tensor) -> Tensor:
    """Whether a number is negative, or the zero with a minus (1 / -0 is -inf)."""
    if x.dtype == torch.bool:
        return torch.zeros_like(x)
    return torch.where(x == 0, 1 / x, x) < 0 if x.is_floating_point() else x < 0


@rule(aten.copysign.Tensor, aten.copysign.Scalar)
def copysign(x: Tensor, y: Any) -> Tensor:
    dtype = torch.result_type(x, y)
    magnitude = x.to(dtype if dtype.is_floating_point else torch.get_default_dtype()).abs()
    if not isinstance(y, Tensor):
        return -magnitude if math.copysign(1, y) < 0 else magnitude
    return torch.where(signbit(y), -magnitude, magnitude)


@rule(aten.fmax.default)
def fmax(a: Tensor, b: Tensor) -> Tensor:
    return torch.where((a >= b) | torch.isnan(b), a, b)


@rule(aten.fmin.default)
def fmin(a: Tensor, b: Tensor) -> Tensor:
    return torch.where((a <= b) | torch.isnan(b), a, b)


@rule(aten.angle.default)
def angle(x: Tensor) -> Tensor:
    """The argument of a real number: 0, pi, or NaN."""
    turned = torch.where(x < 0, math.pi, 0.0)
    return torch.where(torch.isnan(x), x, turned) if x.is_floating_point() else turned


@rule(aten.div.Tensor_mode, aten.div.Scalar_mode)
def div(a: Tensor, b: Any, *, rounding_mode: str | None = None) -> Any:
    """The floor of an inexact quotient is PyTorch's own: (a - fmod(a, b)) / b, made whole."""
    dtype = torch.result_type(a, b)
    if rounding_mode != "floor" or not dtype.is_floating_point:
        return NotImplemented
    a, b = a.to(dtype), torch.as_tensor(b, dtype=dtype)
    rest = torch.fmod(a, b)
    quotient = (a - rest) / b
    quotient = torch.where((rest != 0) & ((b < 0) != (rest < 0)), quotient - 1, quotient)
    whole = torch.floor(quotient)
    whole = torch.where(quotient - whole > 0.5, whole + 1, whole)
    whole = torch.where(quotient == 0, copysign(torch.zeros_like(whole), a / b), whole)
    return torch.where(b == 0, a / b, whole)


@rule(aten.floor_divide.default)
def floor_divide(a: Tensor, b: Any) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")


@rule(aten.ldexp.Tensor)
def ldexp(x: Tensor, exponent: Tensor) -> Tensor:
    return x * torch.pow(2.0, exponent)


@rule(aten.frexp.Tensor)
def frexp(x: Tensor) -> tuple[Tensor, Tensor]:
    """Exact: the magnitude meets [1/2, 1) by multiplications with powers of two."""
    magnitude, exponent = x.abs(), torch.zeros_like(x)
    for power in _BINARY_EXPONENTS:
        is_large = magnitude >= 2.0**power
        magnitude = torch.where(is_large, magnitude * 2.0**-power, magnitude)
        exponent = torch.where(is_large, exponent + power, exponent)
    for power in _BINARY_EXPONENTS:
        is_small = magnitude < 2.0**-power
        magnitude = torch.where(is_small, magnitude * 2.0**power, magnitude)
        exponent = torch.where(is_small, exponent - power, exponent)
    is_one = magnitude >= 1
    magnitude = torch.where(is_one, magnitude * 0.5, magnitude)
    exponent = torch.where(is_one, exponent + 1, exponent)
    has_none = (x == 0) | torch.isinf(x) | torch.isnan(x)
    mantissa = torch.where(x < 0, -magnitude, magnitude)
    whole = torch.where(has_none, 0.0, exponent).to(torch.int32)
    return torch.where(has_none, x, mantissa), whole


@rule(aten.nextafter.default)
def nextafter(x: Tensor, y: Tensor) -> Tensor:
    """One unit in the last place of the type in which the model computes, towards y."""
    limits = torch.finfo(x.dtype)
    least = limits.smallest_normal * limits.eps
    mantissa, exponent = frexp(x)
    unit = torch.pow(2.0, exponent.to(x.dtype)) * (limits.eps / 2)
    rises = y > x
    shrinks = (x > 0) != rises
    unit = torch.where(shrinks & (mantissa.abs() == 0.5), unit / 2, unit).clamp(min=least)
    value = torch.where(rises, x + unit, x - unit)
    value = torch.where(x == 0, torch.where(rises, least, -least), value)
    value = torch.where(torch.isinf(x), torch.where(x > 0, limits.max, -limits.max), value)
    value = torch.where(x == y, y, value)
    return torch.where(torch.isnan(x) | torch.isnan(y), math.nan, value)


@rule(aten.round.decimals)
def round_decimals(x: Tensor, *, decimals: int) -> Tensor:
    if decimals == 0:
        return torch.round(x)
    scale = 10.0 ** abs(decimals)
    return torch.round(x * scale) / scale if decimals > 0 else torch.round(x / scale) * scale


@rule(aten.gcd.default)
def gcd(a: Tensor, b: Tensor) -> Tensor:
    """Euclid's algorithm for as many steps as any pair of 32-bit integers takes."""
    dtype = torch.result_type(a, b)
    a, b = a.to(dtype).abs(), b.to(dtype).abs()
    for _ in range(_EUCLID_STEPS):
        rest = torch.remainder(a, torch.where(b == 0, 1, b))
        a, b = torch.where(b == 0, a, b), torch.where(b == 0, b, rest)
    return a


@rule(aten.lcm.default)
def lcm(a: Tensor, b: Tensor) -> Tensor:
    divisor = gcd(a, b)
    whole = torch.div(a, torch.where(divisor == 0, 1, divisor), rounding_mode="floor")
    return (whole * b).abs()


@rule(aten._efficientzerotensor.default)
def zero_tensor(size: Any, **given: Any) -> Tensor:
    return torch.zeros(size, dtype=given.get("dtype"))


@rule(aten.hypot.default)
def hypot(a: Tensor, b: Tensor) -> Tensor:
    return torch.sqrt(a * a + b * b)


@rule(aten.square.default)
def square(x: Tensor) -> Tensor:
    return x * x


@rule(aten.addcmul.default)
def addcmul(x: Tensor, a: Tensor, b: Tensor, value: Scalar = 1) -> Tensor:
    return x + scaled(a, value) * b


@rule(aten.addcdiv.default)
def addcdiv(x: Tensor, a: Tensor, b: Tensor, value: Scalar = 1) -> Tensor:
    return x + scaled(a, value) / b


@rule(aten.lerp.Scalar)
def lerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    return a + weight * (b - a) if abs(weight) < 0.5 else b - (b - a) * (1 - weight)


@rule(aten.lerp.Tensor)
def lerp_tensor(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + weight * (b - a)


@rule(aten.exp2.default)
def exp2(x: Tensor) -> Tensor:
    return torch.pow(2.0, x)

"""Bessel and Airy functions, as PyTorch computes them (ATen/native/Math.h, from Cephes)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hearth.capture.decompositions import coefficients as table
from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.series import as_float, chebyshev, polynomial, ratio

Tensor = torch.Tensor
_QUARTER, _ROOT = math.pi / 4, math.sqrt(2 / math.pi)
_AIRY_TERMS = 16  # of the power series for |x| < 2.09


# ------------------------------------------------------------- modified, of the first kind


def _scaled_i0(a: Tensor) -> Tensor:
    """exp(-a)·I0(a) for a >= 0."""
    far = chebyshev(32 / a - 2, table.I0_B) / torch.sqrt(a)
    return torch.where(a <= 8, chebyshev(a / 2 - 2, table.I0_A), far)


def _scaled_i1(x: Tensor) -> Tensor:
    """exp(-|x|)·I1(x)."""
    a = x.abs()
    far = chebyshev(32 / a - 2, table.I1_B) / torch.sqrt(a)
    size = torch.where(a <= 8, chebyshev(a / 2 - 2, table.I1_A) * a, far)
    return torch.where(x < 0, -size, size)


@rule(aten.i0.default, aten.special_modified_bessel_i0.default)
def i0(x: Tensor) -> Tensor:
    a = as_float(x).abs()
    return torch.exp(a) * _scaled_i0(a)


@rule(aten.special_i0e.default)
def i0e(x: Tensor) -> Tensor:
    return _scaled_i0(as_float(x).abs())


@rule(aten.special_i1.default, aten.special_modified_bessel_i1.default)
def i1(x: Tensor) -> Tensor:
    x = as_float(x)
    return torch.exp(x.abs()) * _scaled_i1(x)


@rule(aten.special_i1e.default)
def i1e(x: Tensor) -> Tensor:
    return _scaled_i1(as_float(x))


# ------------------------------------------------------------- modified, of the second kind


def _edges(x: Tensor, at_zero: float, value: Tensor) -> Tensor:
    """No value left of zero, and a pole there."""
    return torch.where(x == 0, at_zero, torch.where(x < 0, math.nan, value))


def _k(x: Tensor, near: Tensor, far: Sequence[float], scaled: bool) -> Tensor:
    """`near` up to 2, a series beyond; `scaled` is times exp(x)."""
    beyond = chebyshev(8 / x - 2, far) / torch.sqrt(x)
    factor = torch.exp(x if scaled else -x)
    value = torch.where(x <= 2, near * factor, beyond)
    if not scaled:
        value = torch.where(x <= 2, near, beyond * factor)
    return _edges(x, math.inf, value)


@rule(aten.special_modified_bessel_k0.default)
def k0(x: Tensor, scaled: bool = False) -> Tensor:
    x = as_float(x)
    near = chebyshev(x * x - 2, table.K0_A) - torch.log(0.5 * x) * i0(x)
    return _k(x, near, table.K0_B, scaled)


@rule(aten.special_modified_bessel_k1.default)
def k1(x: Tensor, scaled: bool = False) -> Tensor:
    x = as_float(x)
    near = torch.log(0.5 * x) * i1(x) + chebyshev(x * x - 2, table.K1_A) / x
    return _k(x, near, table.K1_B, scaled)


@rule(aten.special_scaled_modified_bessel_k0.default)
def scaled_k0(x: Tensor) -> Tensor:
    return k0(x, scaled=True)


@rule(aten.special_scaled_modified_bessel_k1.default)
def scaled_k1(x: Tensor) -> Tensor:
    return k1(x, scaled=True)


# ------------------------------------------------------------- of the first and second kind


def _wave(a: Tensor, order: int, sine: bool) -> Tensor:
    """The oscillation beyond 5: amplitude and phase by series in 1/a²."""
    p = (table.J1_PP, table.J1_PQ) if order else (table.J0_PP, table.J0_PQ)
    q = (table.J1_QP, table.J1_QQ) if order else (table.J0_QP, table.J0_QQ)
    z = (5 / a) * (5 / a)
    even, odd = ratio(z, *p), 5 / a * ratio(z, *q)
    phase = a - _QUARTER * (3 if order else 1)
    along, across = torch.cos(phase), torch.sin(phase)
    wave = even * across + odd * along if sine else even * along - odd * across
    return wave * _ROOT / torch.sqrt(a)


@rule(aten.special_bessel_j0.default)
def j0(x: Tensor) -> Tensor:
    a = as_float(x).abs()
    z = a * a
    near = (z - 5.78318596294678452118) * (z - 30.4712623436620863991)
    near = near * ratio(z, table.J0_RP, table.J0_RQ)
    return torch.where(a <= 5, torch.where(a < 1e-5, 1 - z / 4, near), _wave(a, 0, sine=False))


@rule(aten.special_bessel_j1.default)
def j1(x: Tensor) -> Tensor:
    x = as_float(x)
    a = x.abs()
    z = a * a
    near = ratio(z, table.J1_RP, table.J1_RQ) * a
    near = near * (z - 14.6819706421238932572) * (z - 49.2184563216946036703)
    value = torch.where(a <= 5, near, _wave(a, 1, sine=False))
    return torch.where(x < 0, -value, value)


@rule(aten.special_bessel_y0.default)
def y0(x: Tensor) -> Tensor:
    x = as_float(x)
    near = ratio(x * x, table.Y0_YP, table.Y0_YQ) + 2 / math.pi * torch.log(x) * j0(x)
    return _edges(x, -math.inf, torch.where(x <= 5, near, _wave(x, 0, sine=True)))


@rule(aten.special_bessel_y1.default)
def y1(x: Tensor) -> Tensor:
    x = as_float(x)
    near = x * ratio(x * x, table.Y1_YP, table.Y1_YQ)
    near = near + 2 / math.pi * (j1(x) * torch.log(x) - 1 / x)
    return _edges(x, -math.inf, torch.where(x <= 5, near, _wave(x, 1, sine=True)))


@rule(aten.special_spherical_bessel_j0.default)
def spherical_j0(x: Tensor) -> Tensor:
    x = as_float(x)
    terms = [(-1) ** k / math.factorial(2 * k + 1) for k in range(6, -1, -1)]
    far = torch.where(torch.isinf(x), 0.0, torch.sin(x) / x)
    return torch.where(x.abs() < 0.5, polynomial(x * x, terms), far)


# ------------------------------------------------------------- Airy


def _airy_series(x: Tensor) -> Tensor:
    """Two power series in x³."""
    cube, f, g = x * x * x, torch.ones_like(x), x
    even, odd = f, g
    for n in range(3, 3 * _AIRY_TERMS, 3):
        even, odd = even * cube / (n * (n - 1)), odd * cube / (n * (n + 1))
        f, g = f + even, g + odd
    return 0.355028053887817239260 * f - 0.258819403792806798405 * g


@rule(aten.special_airy_ai.default)
def airy_ai(x: Tensor) -> Tensor:
    x = as_float(x)
    a = x.abs()
    root = torch.sqrt(a)
    t = 2 * a * root / 3
    fourth, scale = torch.sqrt(root), 1 / math.sqrt(math.pi)
    z = 1 / t
    decay = scale * ratio(z, table.AIRY_AN, table.AIRY_AD) / (2 * fourth * torch.exp(t))
    square, phase = z * z, t + _QUARTER
    sine = 1 + square * ratio(square, table.AIRY_AFN, table.AIRY_AFD)
    cosine = z * ratio(square, table.AIRY_AGN, table.AIRY_AGD)
    wave = scale / fourth * (torch.sin(phase) * sine - torch.cos(phase) * cosine)
    value = torch.where(x < -2.09, wave, torch.where(x < 2.09, _airy_series(x), decay))
    value = torch.where(x > 103.892, 0.0, value)
    return torch.where(torch.isinf(x), math.nan, value)

"""Inverses and scaled forms of the error function and of the normal distribution."""

from __future__ import annotations

import math

import torch

from hearth.capture.decompositions import coefficients as table
from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.series import as_float, ratio
from hearth.ir.expansions import ERFC_FAR_P, ERFC_FAR_Q, ERFC_P, ERFC_Q

Tensor = torch.Tensor
_TAIL = math.exp(-2)
_SLOPE = 2 / math.sqrt(math.pi)


@rule(aten.erfinv.default)
def erfinv(y: Tensor) -> Tensor:
    """A rational start and two steps of Newton (G. L. Pavlis, 1996).

    Near 1 they take erfc, which is small there, and 1 - a, which is exact.
    """
    y = as_float(y)
    a, z = y.abs(), y * y
    middle = a * ratio(
        z,
        (-0.140543331, 0.914624893, -1.645349621, 0.886226899),
        (0.012229801, -0.329097515, 1.442710462, -2.118377725, 1.0),
    )
    z = torch.sqrt(-torch.log((1 - a) / 2))
    tail = ratio(
        z, (1.641345311, 3.429567803, -1.624906493, -1.970840454), (1.6370678, 3.5438892, 1.0)
    )
    is_middle = a <= 0.7
    x = torch.where(is_middle, middle, tail)
    for _ in range(2):
        excess = torch.where(is_middle, torch.erf(x) - a, (1 - a) - torch.erfc(x))
        x = x - excess / (_SLOPE * torch.exp(-x * x))
    x = torch.copysign(x, y)
    return torch.where(a < 1, x, torch.where(a == 1, y * math.inf, math.nan))


@rule(aten.special_erfcx.default)
def erfcx(x: Tensor) -> Tensor:
    """exp(x²)·erfc(x): Cody's approximations of the tail need no exponential."""
    x = as_float(x)
    a = x.abs()
    near = torch.exp(a * a) * torch.erfc(a)
    held = a.clamp(max=4)
    middle = ratio(held, ERFC_P[::-1], ERFC_Q[::-1])
    w = 1 / (a * a)
    far = (1 / math.sqrt(math.pi) - w * ratio(w, ERFC_FAR_P[::-1], ERFC_FAR_Q[::-1])) / a
    right = torch.where(a <= 0.46875, near, torch.where(a <= 4, middle, far))
    left = torch.where(x < -26.7, math.inf, 2 * torch.exp(a * a) - right)
    return torch.where(x < 0, left, right)


@rule(aten.special_ndtri.default)
def ndtri(p: Tensor) -> Tensor:
    p = as_float(p)
    is_right = p > 1 - _TAIL
    y = torch.where(is_right, 1 - p, p)
    centred = y - 0.5
    z = centred * centred
    middle = centred + centred * (z * ratio(z, table.NDTRI_P0, table.NDTRI_Q0))
    x = torch.sqrt(-2 * torch.log(y))
    z = 1 / x
    near, far = ratio(z, table.NDTRI_P1, table.NDTRI_Q1), ratio(z, table.NDTRI_P2, table.NDTRI_Q2)
    tail = x - torch.log(x) / x - z * torch.where(x < 8, near, far)
    tail = torch.where(is_right, tail, -tail)
    value = torch.where(y > _TAIL, middle * math.sqrt(2 * math.pi), tail)
    value = torch.where((p < 0) | (p > 1), math.nan, value)
    return torch.where(p == 0, -math.inf, torch.where(p == 1, math.inf, value))


@rule(aten.special_log_ndtr.default)
def log_ndtr(x: Tensor) -> Tensor:
    t = as_float(x) * math.sqrt(0.5)
    left = torch.log(erfcx(-t) / 2) - t * t
    return torch.where(x < -1, left, torch.log1p(-torch.erfc(t) / 2))

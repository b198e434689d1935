"""The logarithm of the gamma function, its derivatives, and the zeta function (Cephes).

Recurrences that shift an argument take as many steps as any argument needs, each step under a
condition.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.series import as_float, polynomial, ratio
from hearth.capture.decompositions.tables import constant

Tensor = torch.Tensor

# Moshier, Cephes lgam: ln gamma(2 + x) on [0, 1), and Stirling's correction in 1/x².
_GAMMA_B = (-1.37825152569120859100e3, -3.88016315134637840924e4, -3.31612992738871184744e5,
            -1.16237097492762307383e6, -1.72173700820839662146e6,
            -8.53555664245765465627e5)  # fmt: skip
_GAMMA_C = (1.0, -3.51815701436523470549e2, -1.70642106651881159223e4, -2.20528590554454854439e5,
            -1.13933444367982507207e6, -2.53252307177582951285e6,
            -2.01889141433532773231e6)  # fmt: skip
_STIRLING = (8.11614167470508450300e-4, -5.95061904284301438324e-4, 7.93650340457716943945e-4,
             -2.77777777730099687205e-3, 8.33333333333331927722e-2)  # fmt: skip
_DIGAMMA = (8.33333333333333333333e-2, -2.10927960927960927961e-2, 7.57575757575757575758e-3,
            -4.16666666666666666667e-3, 3.96825396825396825397e-3, -8.33333333333333333333e-3,
            8.33333333333333333333e-2)  # fmt: skip
_ZETA = (12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1.8924375803183791606e9, 7.47242496e10,
         -2.950130727918164224e12, 1.1646782814350067249e14, -4.5979787224074726105e15,
         1.8152105401943546773e17, -7.1661652561756670113e18)  # fmt: skip
_SERIES_TERMS, _NODES = 192, 96  # enough for a <= 500 in float64
_ZETA_SHIFTS = 64  # arguments below 9 - 64 have no value


def _lgamma_positive(x: Tensor) -> Tensor:
    z = 1 / (x * x)
    far = (x - 0.5) * torch.log(x) - x + 0.5 * math.log(2 * math.pi) + polynomial(z, _STIRLING) / x
    product, y = torch.ones_like(x), torch.where(x < 13, x, 2.0)
    for _ in range(10):
        is_large = y >= 3
        y = torch.where(is_large, y - 1, y)
        product = torch.where(is_large, product * y, product)
    for _ in range(2):
        is_small = y < 2
        product = torch.where(is_small, product / y, product)
        y = torch.where(is_small, y + 1, y)
    y = y - 2
    near = torch.log(product) + y * ratio(y, _GAMMA_B, _GAMMA_C)
    return torch.where(x < 13, near, torch.where(torch.isinf(x), x, far))


@rule(aten.lgamma.default)
def lgamma(x: Tensor) -> Tensor:
    """Left of 0 by reflection: ln(pi / |sin(pi·x)|) - ln gamma(1 - x)."""
    x = as_float(x)
    mirrored = x < 0
    value = _lgamma_positive(torch.where(mirrored, 1 - x, x))
    sine = torch.sin(math.pi * (x - torch.round(x))).abs()
    reflected = torch.where(torch.isinf(x), math.inf, math.log(math.pi) - torch.log(sine) - value)
    return torch.where(mirrored, reflected, value)


@rule(aten.digamma.default)
def digamma(x: Tensor) -> Tensor:
    x = as_float(x)
    y, total = torch.where(x < 0, 1 - x, x), torch.zeros_like(x)
    for _ in range(10):
        is_small = y < 10
        total = torch.where(is_small, total - 1 / y, total)
        y = torch.where(is_small, y + 1, y)
    z = 1 / (y * y)
    value = total + torch.log(y) - 0.5 / y - z * polynomial(z, _DIGAMMA)
    fraction = x - torch.trunc(x)
    reflected = value - math.pi / torch.tan(math.pi * fraction)
    value = torch.where(x < 0, torch.where(fraction == 0, math.nan, reflected), value)
    return torch.where(x == 0, -1 / x, value)


def trigamma(x: Tensor) -> Tensor:
    mirrored, sine = x < 0.5, torch.sin(math.pi * x)
    y = torch.where(mirrored, 1 - x, x)
    total = torch.where(mirrored, -math.pi * math.pi / (sine * sine), 0.0)
    for _ in range(6):
        total = total + 1 / (y * y)
        y = y + 1
    z = 1 / (y * y)
    total = total + (1 + 1 / (2 * y) + z * (1 / 6 - z * (1 / 30 - z * (1 / 42)))) / y
    return torch.where(mirrored, -total, total)


@rule(aten.polygamma.default)
def polygamma(n: int, x: Tensor) -> Tensor:
    x = as_float(x)
    if n == 0:
        return digamma(x)
    if n == 1:
        return trigamma(x)
    factorial = float(math.factorial(n))
    return (factorial if n % 2 else -factorial) * zeta(torch.full_like(x, n + 1), x)


@rule(aten.special_zeta.default)
def zeta(x: Tensor, q: Tensor) -> Tensor:
    """Euler and Maclaurin: terms of the series until q + k > 9, then an expansion of the rest."""
    dtype = torch.result_type(x, q)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    x, q = x.to(dtype) + torch.zeros_like(q), q.to(dtype) + torch.zeros_like(x)
    a = q
    total = term = torch.pow(q, -x)
    for k in range(9 + _ZETA_SHIFTS):
        goes_on = torch.ones_like(a, dtype=torch.bool) if k < 9 else a <= 9
        a = torch.where(goes_on, a + 1, a)
        term = torch.where(goes_on, torch.pow(a, -x), term)
        total = torch.where(goes_on, total + term, total)
    total = total + term * a / (x - 1) - 0.5 * term
    factor, k = torch.ones_like(x), 0
    for divisor in _ZETA:
        factor, term = factor * (x + k), term / a
        total = total + factor * term / divisor
        factor, term, k = factor * (x + k + 1), term / a, k + 2
    is_pole = (q <= 0) & (q == torch.floor(q))
    total = torch.where((a <= 9) | ((q <= 0) & (x != torch.floor(x))), math.nan, total)
    total = torch.where(is_pole | (x == 1), math.inf, total)
    return torch.where(x < 1, math.nan, total)


# --------------------------------------------------------------- the incomplete gamma functions


def _lower_series(a: Tensor, x: Tensor) -> Tensor:
    """DLMF 8.11.4: x^a·exp(-x) / gamma(a + 1) times a sum of products, for x <= a + 1."""
    steps = torch.arange(1, _SERIES_TERMS + 1, dtype=x.dtype)
    products = torch.cumprod(x.unsqueeze(-1) / (a.unsqueeze(-1) + steps), -1)
    scale = torch.exp(a * torch.log(x) - x - lgamma(a + 1))
    return scale * (1 + products.sum(-1))


def _upper_integral(a: Tensor, x: Tensor) -> Tensor:
    """The integral of t^(a-1)·exp(-t) / gamma(a) from x on, by Gauss and Legendre."""
    nodes, weights = _quadrature()
    length = (40 + 8 * torch.sqrt(a)).unsqueeze(-1)
    t = x.unsqueeze(-1) + length * nodes.to(x.dtype)
    density = (a - 1).unsqueeze(-1) * torch.log(t) - t - lgamma(a).unsqueeze(-1)
    return (torch.exp(density) * length * weights.to(x.dtype)).sum(-1)


def _quadrature() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return constant(lambda: torch.tensor((nodes + 1) / 2)), constant(
        lambda: torch.tensor(weights / 2)
    )


def _incomplete(a: Tensor, x: Tensor, upper: bool) -> Tensor:
    """Up to a + 1 the lower function is a series; beyond, the upper one is an integral."""
    dtype = torch.result_type(a, x)
    a, x = a.to(dtype) + torch.zeros_like(x), x.to(dtype) + torch.zeros_like(a)
    is_near = x <= a + 1
    lower = _lower_series(a, torch.where(is_near, x, 1.0))
    rest = _upper_integral(a, torch.where(is_near, a + 1, x))
    if upper:
        value = torch.where(is_near, 1 - lower, rest)
    else:
        value = torch.where(is_near, lower, 1 - rest)
    ends = torch.where(torch.isinf(x) | (a == 0), 1.0, 0.0)
    is_end = (x == 0) | (a == 0) | torch.isinf(x) | torch.isinf(a)
    value = torch.where(is_end, 1 - ends if upper else ends, value)
    undefined = (x < 0) | (a < 0) | ((x == 0) & (a == 0)) | (torch.isinf(x) & torch.isinf(a))
    return torch.where(undefined | torch.isnan(x) | torch.isnan(a), math.nan, value)


@rule(aten.igamma.default)
def igamma(a: Tensor, x: Tensor) -> Tensor:
    return _incomplete(a, x, upper=False)


@rule(aten.igammac.default)
def igammac(a: Tensor, x: Tensor) -> Tensor:
    return _incomplete(a, x, upper=True)

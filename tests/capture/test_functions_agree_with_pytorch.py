"""Functions of torch, forward and gradient, captured and computed in float64, equal PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.capture.scaled import Function, assert_equals_pytorch

ROW, IMAGE = (12,), (2, 8, 8)


def positive(function: Function) -> Function:
    return lambda x: function(x.abs() + 0.5)


CHOSEN = torch.tensor([1, -3, 1])
ROWS: dict[str, Function] = {
    **{f.__name__: f for f in (F.celu, F.selu, F.glu, F.hardshrink, F.softshrink, F.tanhshrink)},
    **{f.__name__: f for f in (F.softsign, torch.sin, torch.cos, torch.tan, torch.atan)},
    **{f.__name__: f for f in (torch.asinh, torch.erf, torch.exp2, torch.expm1, torch.frac)},
    **{f.__name__: positive(f) for f in (torch.log2, torch.log10, torch.log1p, torch.sqrt)},
    **{f.__name__: positive(f) for f in (torch.rsqrt, torch.reciprocal)},
    "cube": lambda x: x**3,
    "power": positive(lambda x: x**2.5),
    "power of itself": positive(lambda x: x**x),
    "exponential of 2": lambda x: 2**x,
    "fmod": lambda x: torch.fmod(x, 0.7),
    "remainder": lambda x: torch.remainder(x, 0.7),
    "atan2": lambda x: torch.atan2(x, x + 1),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "xlogy": positive(lambda x: torch.xlogy(x, x)),
    "logaddexp": lambda x: torch.logaddexp(x, x * 2),
    "largest": lambda x: x.max(1)[0],
    "smallest kept": lambda x: x.min(1, keepdim=True)[0] * x,
    "largest of all": lambda x: x.max() * x,
    "norm": lambda x: x.norm(dim=1),
    "norm 1": lambda x: x.norm(p=1, dim=1),
    "norm 3": lambda x: x.norm(p=3, dim=1),
    "normalize": F.normalize,
    "variance": lambda x: x.var(1),
    "variance over the batch": lambda x: x.var(0),
    "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(1) + 1),
    "einsum": lambda x: torch.einsum("bi,bj->bij", x, x),
    "similarity of samples": lambda x: (x @ x.T).softmax(1) @ x,
    "matrices": lambda x: x.reshape(-1, 3, 4) @ x.reshape(-1, 4, 3),
    "repeat": lambda x: x.repeat(1, 2),
    "repeat rows": lambda x: x.repeat(2, 3, 1),
    "repeat interleave": lambda x: x.repeat_interleave(2, 1),
    "chosen columns": lambda x: x[:, CHOSEN],
    "chosen grid": lambda x: x.reshape(-1, 3, 4)[:, torch.tensor([[0, 2], [2, 1]])],
    "index select": lambda x: x.index_select(1, CHOSEN.abs()),
    "gather": lambda x: x.gather(1, (torch.arange(len(x)) % 12)[:, None].expand(len(x), 3)),
    "steps": lambda x: x[:, 1::3],
    "covariance": lambda x: torch.cov(x.t()),
    "weighted covariance": lambda x: torch.cov(
        x.t() @ x, fweights=CHOSEN.abs().repeat(4), aweights=x[0].abs()
    ),
    "correlation": torch.corrcoef,
    "pairs": lambda x: torch.combinations(x[0], 2),
    "whole numbers between": lambda x: x + torch.linspace(4.3, -3, x.shape[1], dtype=torch.long),
    "multi margin": lambda x: F.multi_margin_loss(
        x, torch.arange(len(x)), p=2, weight=x[0].detach()
    ),
    "multilabel margin": lambda x: F.multilabel_margin_loss(
        x, torch.tensor([[3, 0, 11] + [-1] * 9]).expand(len(x), 12)
    ),
    "exponential": lambda x: x * torch.empty_like(x).exponential_(3),
    "geometric": lambda x: x * torch.empty_like(x).geometric_(0.3),
    "log-normal": lambda x: x * torch.empty_like(x).log_normal_(0.5, 0.2),
    "cauchy": lambda x: x * torch.empty_like(x).cauchy_(),
    "normal of means": lambda x: torch.normal(x.detach(), 0.5) * x,
    "integers": lambda x: x * torch.randint(3, 9, x.shape) + torch.randint_like(x, 5),
    "chosen at random": lambda x: x * torch.multinomial(x.detach().abs() + 0.1, 12),
    "chosen again": lambda x: x * torch.multinomial(x.detach().abs() + 0.1, 12, True),
    "rrelu": lambda x: F.rrelu(x, training=True),
    "sign": lambda x: x * torch.copysign(x, x - 0.5) + torch.signbit(x),
    "larger of two": lambda x: torch.fmax(x, x.log()) + torch.fmin(x, x.flip(1)),
    "floor of a quotient": lambda x: x + torch.div(x, 0.3, rounding_mode="floor"),
    "power of two": lambda x: torch.ldexp(x, torch.full_like(x, 3)),
    "mantissa": lambda x: sum(x * part for part in torch.frexp(x.detach() * 1000)),
    "rounded": lambda x: x + x.round(decimals=2) + (x * 100).round(decimals=-1),
    "common divisors": lambda x: (
        x * torch.gcd((x * 99).long(), (x * 24).long()) + torch.lcm((x * 9).long(), (x * 4).long())
    ),
    "windows": lambda x: x.unfold(1, 5, 2),
    "embedded diagonal": lambda x: torch.diag_embed(x, 1),
    "strided": lambda x: x.sum(0).as_strided((3, 4), (2, 1), 1) * x.sum(),
    "chunks": lambda x: torch.cat(x.chunk(5, 1)[::-1], 1),
    "attention": lambda x: F.scaled_dot_product_attention(
        *[x.reshape(-1, 2, 3, 2)] * 3, is_causal=True
    ),
    "adaptive max 1d": lambda x: F.adaptive_max_pool1d(x[:, None], 4),
    "average 1d": lambda x: F.avg_pool1d(x[:, None], 3, 2),
    "any and all": lambda x: x * (x > 0).any(1, keepdim=True) * (x < 9).all(),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.3),
    "bernoulli": lambda x: x * torch.bernoulli(torch.sigmoid(x.detach())),
    "kl": lambda x: F.kl_div(
        F.log_softmax(x, 1), torch.full_like(x, 1 / 12), reduction="batchmean"
    ),
    "triplet": lambda x: F.triplet_margin_loss(x, x + 1, x.flip(1)),
    "binary cross entropy": lambda x: F.binary_cross_entropy(x.sigmoid(), torch.ones_like(x) * 0.3),
}
SPECIAL: dict[str, Function] = {
    **{f.__name__: f for f in (torch.lgamma, torch.digamma, torch.i0, torch.special.i0e)},
    **{f.__name__: f for f in (torch.special.i1, torch.special.i1e, torch.special.erfcx)},
    **{f.__name__: f for f in (torch.special.log_ndtr, torch.special.ndtr, torch.sinc)},
    **{
        f.__name__: lambda x, f=f: x * f(x.detach() * 3)  # type: ignore[misc]
        for f in (
            *(torch.special.bessel_j0, torch.special.bessel_j1, torch.special.airy_ai),
            *(torch.special.spherical_bessel_j0, torch.special.modified_bessel_i0),
        )
    },
    **{
        f.__name__: lambda x, f=f: x * f(x.detach().abs() + 0.1)  # type: ignore[misc]
        for f in (
            *(torch.special.bessel_y0, torch.special.bessel_y1),
            *(torch.special.modified_bessel_k0, torch.special.modified_bessel_k1),
            *(torch.special.scaled_modified_bessel_k0, torch.special.scaled_modified_bessel_k1),
        )
    },
    "erfinv": lambda x: torch.erfinv(torch.tanh(x)),
    "ndtri": lambda x: torch.special.ndtri(torch.sigmoid(x)),
    "polygamma": positive(lambda x: torch.polygamma(3, x)),
    "multivariate gamma": positive(lambda x: torch.mvlgamma(x + 1, 3)),
    "zeta": positive(lambda x: x * torch.special.zeta(x.detach() + 1.5, x.detach())),
    "incomplete gamma": positive(lambda x: torch.igamma(x.detach() + 1, x)),
    "incomplete gamma above": positive(lambda x: torch.igammac(x.detach() * 0.3, x)),
    "Laguerre": lambda x: x * torch.special.laguerre_polynomial_l(x.detach(), 5),
    "Hermite": lambda x: (
        x * torch.special.hermite_polynomial_h(x.detach(), (torch.arange(12) - 1).float())
    ),
}
IMAGES: dict[str, Function] = {
    "lower triangle": lambda x: x.tril(),
    "diagonal": lambda x: x.diagonal(-1, 2, 3),
    "diagonal of a wide one": lambda x: x[:, :, :4].diagonal(2, 2, 3),
    "roll": lambda x: x.roll(2, -1),
    "pixel shuffle": lambda x: F.pixel_shuffle(x.reshape(-1, 4, 4, 8), 2),
    "circular": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "power average": lambda x: F.lp_pool2d(x.abs(), 2, 2),
    "average without padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average, ceiling": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "average, divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    "adaptive average, same": lambda x: F.adaptive_avg_pool2d(x, (None, 4)),
    "maximum, ceiling": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "maximum, dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, 4),
    "bilinear": lambda x: F.interpolate(x, (5, 11), mode="bilinear", align_corners=True),
    "nearest": lambda x: F.interpolate(x, (5, 11)),
    "channel dropout": lambda x: F.dropout2d(x, 0.3),
    "instance norm": F.instance_norm,
    "pixel classes": lambda x: F.cross_entropy(x, torch.zeros(len(x), 8, 8, dtype=torch.long)),
}
CASES = {
    **{k: (f, ROW) for k, f in (ROWS | SPECIAL).items()},
    **{k: (f, IMAGE) for k, f in IMAGES.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_and_its_gradient_equal_pytorch(name: str) -> None:
    assert_equals_pytorch(*CASES[name])

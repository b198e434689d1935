"""Products of matrices and vectors down to `mm` and `bmm`, and sums of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Ints = Sequence[int]
Scalar = float | int


def scaled(x: Tensor, factor: Scalar) -> Tensor:
    """X times a number, which an integer tensor takes as an integer."""
    factor = factor if x.is_floating_point() else int(factor)
    return x if factor == 1 else x * factor


def _weighted(c: Tensor, beta: Scalar, product: Tensor, alpha: Scalar) -> Tensor:
    """A factor of 0 ignores even the NaN of c."""
    keeps = beta if c.is_floating_point() else int(beta)
    return scaled(product, alpha) + (scaled(c, beta) if keeps else torch.zeros_like(c))


@rule(aten.addmm.default)
def addmm(c: Tensor, a: Tensor, b: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return _weighted(c, beta, torch.mm(a, b), alpha)


@rule(aten.addmv.default)
def addmv(c: Tensor, a: Tensor, x: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return _weighted(c, beta, mv(a, x), alpha)


@rule(aten.addr.default)
def addr(c: Tensor, a: Tensor, b: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    outer = a.unsqueeze(1) * b
    if c.dtype == torch.bool:
        return (c & bool(beta)) | (outer & bool(alpha))
    return _weighted(c, beta, outer, alpha)


@rule(aten.baddbmm.default)
def baddbmm(c: Tensor, a: Tensor, b: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return _weighted(c, beta, torch.bmm(a, b), alpha)


@rule(aten.addbmm.default)
def addbmm(c: Tensor, a: Tensor, b: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    """The sum of products over a batch is one product with the batch in the inner axis."""
    rows = a.transpose(0, 1).reshape(a.shape[1], -1)
    columns = b.reshape(-1, b.shape[2])
    return _weighted(c, beta, torch.mm(rows, columns), alpha)


@rule(aten.dot.default, aten.vdot.default)
def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=a.dtype)


@rule(aten.mv.default)
def mv(a: Tensor, x: Tensor) -> Tensor:
    return torch.mm(a, x.unsqueeze(1)).squeeze(1)


@rule(aten._trilinear.default)
def trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand_a: Ints,
    expand_b: Ints,
    expand_c: Ints,
    summed: Ints,
    unroll: int = 1,
) -> Tensor:
    """The product of three tensors, summed: `nn.Bilinear` and its gradients.

    Each lacks the axes in its `expand`, and is broadcast along them.
    """
    axes = range(a.dim() + len(expand_a))
    operands = [[i for i in axes if i not in missing] for missing in (expand_a, expand_b, expand_c)]
    product: Tensor = torch.einsum(
        a, operands[0], b, operands[1], c, operands[2], [i for i in axes if i not in summed]
    )
    return product

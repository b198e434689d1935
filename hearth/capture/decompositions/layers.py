"""Matrix products, convolutions, pooling, embeddings; and small functions of tensors.

A convolution's gradient becomes two operators of ours, so that each gets its own kernel, and a
sum for the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, count, operator, rule

Tensor = torch.Tensor
Optional = Tensor | None
Ints = Sequence[int]
Scalar = float | int

_CONV = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, "
_CONV += "SymInt[] output_padding, SymInt groups"
operator(
    f"conv_input_grad(Tensor g, Tensor w, SymInt[] x_shape, {_CONV}) -> Tensor",
    lambda g, w, x_shape, *_: g.new_empty(x_shape),  # noqa: ARG005
)
operator(
    f"conv_weight_grad(Tensor g, Tensor x, SymInt[] w_shape, {_CONV}) -> Tensor",
    lambda g, x, w_shape, *_: g.new_empty(w_shape),  # noqa: ARG005
)
operator(
    "max_pool_grad(Tensor g, Tensor indices, SymInt[] x_shape, int[] kernel, int[] stride, "
    "int[] padding, int[] dilation) -> Tensor",
    lambda g, indices, x_shape, *_: g.new_empty(x_shape),  # noqa: ARG005
)
operator(
    "avg_pool_grad(Tensor g, SymInt[] x_shape, int[] kernel, int[] stride, int[] padding, "
    "bool ceil_mode, bool count_include_pad, int? divisor) -> Tensor",
    lambda g, x_shape, *_: g.new_empty(x_shape),
)


@rule(aten.convolution.default)
def convolution(
    x: Tensor,
    w: Tensor,
    bias: Optional,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> Any:
    """One dimension is two with a height of 1; the rest stays."""
    if x.dim() != 3:
        return NotImplemented
    geometry = ([1, *stride], [0, *padding], [1, *dilation], transposed, [0, *output_padding])
    y = aten.convolution(x.unsqueeze(2), w.unsqueeze(2), bias, *geometry, groups)
    return y.squeeze(2)


@rule(aten.convolution_backward.default)
def convolution_backward(
    g: Tensor,
    x: Tensor,
    w: Tensor,
    bias_sizes: Ints | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Optional, Optional, Optional]:
    g_bias = g.sum([0, *range(2, g.dim())]) if mask[2] else None
    flat = x.dim() == 3
    if flat:
        g, x, w = g.unsqueeze(2), x.unsqueeze(2), w.unsqueeze(2)
        stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
        output_padding = [0, *output_padding]
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    g_x = torch.ops.hearth.conv_input_grad(g, w, x.shape, *geometry) if mask[0] else None
    g_w = torch.ops.hearth.conv_weight_grad(g, x, w.shape, *geometry) if mask[1] else None
    if flat:
        g_x, g_w = (None if t is None else t.squeeze(2) for t in (g_x, g_w))
    return g_x, g_w, g_bias


@rule(aten.max_pool2d_with_indices_backward.default)
def max_pool_backward(
    g: Tensor,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    indices: Tensor,
) -> Any:
    shape = (kernel, stride or kernel, padding, dilation)
    return torch.ops.hearth.max_pool_grad(g, indices, x.shape, *map(_pair, shape))


@rule(aten.avg_pool2d_backward.default)
def avg_pool_backward(
    g: Tensor,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    shape = map(_pair, (kernel, stride or kernel, padding))
    return torch.ops.hearth.avg_pool_grad(g, x.shape, *shape, ceil_mode, count_include_pad, divisor)


def _pair(value: Ints) -> Ints:
    return [value[0], value[0]] if len(value) == 1 else value


@rule(aten.hypot.default)
def hypot(a: Tensor, b: Tensor) -> Tensor:
    return torch.sqrt(a * a + b * b)


def _scaled(x: Tensor, factor: Scalar) -> Tensor:
    return x if factor == 1 else x * factor


@rule(aten.addmm.default)
def addmm(c: Tensor, a: Tensor, b: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return _scaled(torch.mm(a, b), alpha) + _scaled(c, beta)


@rule(aten.baddbmm.default)
def baddbmm(c: Tensor, a: Tensor, b: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return _scaled(torch.bmm(a, b), alpha) + _scaled(c, beta)


@rule(aten.dot.default)
def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


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


@rule(aten.mean.default)
def mean(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return x.sum(dtype=dtype) / x.numel()


def _axes(x: Tensor, axes: Ints | int | None) -> list[int]:
    if isinstance(axes, int):
        axes = [axes]
    return [a % x.dim() for a in axes] if axes else list(range(x.dim()))


@rule(aten.mean.dim)
def mean_over(
    x: Tensor, axes: Ints | None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    axes = _axes(x, axes)
    return x.sum(axes, keepdim, dtype=dtype) / count(x, axes)


@rule(aten.var_mean.correction)
def var_mean(
    x: Tensor, axes: Ints | None = None, correction: Scalar | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    axes = _axes(x, axes)
    n = count(x, axes)
    middle = x.sum(axes, True) / n
    centred = x - middle
    var = (centred * centred).sum(axes, keepdim) / max(
        n - (1 if correction is None else correction), 0
    )
    return var, middle if keepdim else middle.squeeze(axes)


@rule(aten.var.correction)
def var(
    x: Tensor, axes: Ints | None = None, correction: Scalar | None = None, keepdim: bool = False
) -> Tensor:
    result: Tensor = var_mean(x, axes, correction, keepdim)[0]
    return result


@rule(aten.std.correction)
def std(
    x: Tensor, axes: Ints | None = None, correction: Scalar | None = None, keepdim: bool = False
) -> Tensor:
    return torch.sqrt(var_mean(x, axes, correction, keepdim)[0])


@rule(aten.linalg_vector_norm.default)
def vector_norm(
    x: Tensor,
    order: Scalar = 2,
    axes: Ints | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Any:
    axes, x = _axes(x, axes), x if dtype is None else x.to(dtype)
    if order == 2:
        return torch.sqrt((x * x).sum(axes, keepdim)) if axes else torch.abs(x)
    if order == 1:
        return torch.abs(x).sum(axes, keepdim)
    if order == math.inf:
        return torch.amax(torch.abs(x), axes, keepdim)
    if order <= 0:
        return NotImplemented
    return torch.pow(torch.pow(torch.abs(x), order).sum(axes, keepdim), 1 / order)


@rule(aten.square.default)
def square(x: Tensor) -> Tensor:
    return x * x


@rule(aten.addcmul.default)
def addcmul(x: Tensor, a: Tensor, b: Tensor, value: Scalar = 1) -> Tensor:
    return x + _scaled(a, value) * b


@rule(aten.addcdiv.default)
def addcdiv(x: Tensor, a: Tensor, b: Tensor, value: Scalar = 1) -> Tensor:
    return x + _scaled(a, value) / b


@rule(aten.lerp.Scalar)
def lerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    return a + weight * (b - a) if abs(weight) < 0.5 else b - (b - a) * (1 - weight)


@rule(aten.lerp.Tensor)
def lerp_tensor(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + weight * (b - a)


@rule(aten.exp2.default)
def exp2(x: Tensor) -> Tensor:
    return torch.pow(2.0, x)

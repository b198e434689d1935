"""Matrix products and convolutions; and small functions of tensors.

A convolution's gradient becomes two operators of ours, so that each gets its own kernel, and a
sum for the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor
Optional = Tensor | None
Ints = Sequence[int]

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

"""The gradient of weight normalisation: w = v * g / |v|, norms over all axes but one."""

from __future__ import annotations

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor


@rule(aten._weight_norm_interface_backward.default)
def weight_norm_backward(
    grad: Tensor, v: Tensor, g: Tensor, norms: Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    """With respect to v and g."""
    others = [a for a in range(v.dim()) if a != axis % v.dim()]
    along = (grad * v).sum(others, True) / norms
    return g / norms * (grad - v * (along / norms)), along

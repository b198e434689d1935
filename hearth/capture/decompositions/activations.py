"""Activation functions and their gradients as scalar expressions (PyTorch's own formulas)."""

from __future__ import annotations

import math

import torch

from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
_GELU_SLOPE, _GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715
_SIXTH = (
    0.1666666716337204  # 1/6 in float32, which PyTorch uses in this gradient for float64 as well
)


@rule(aten.sigmoid_backward.default)
def sigmoid_backward(g: Tensor, y: Tensor) -> Tensor:
    return g * ((1 - y) * y)


@rule(aten.tanh_backward.default)
def tanh_backward(g: Tensor, y: Tensor) -> Tensor:
    return g * (1 - y * y)


def _gelu_tanh(x: Tensor) -> Tensor:
    return torch.tanh(_GELU_SLOPE * (x + _GELU_CUBIC * x * x * x))


@rule(aten.gelu.default)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return 0.5 * x * (1 + _gelu_tanh(x))
    return x * 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))


@rule(aten.gelu_backward.default)
def gelu_backward(g: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        t = _gelu_tanh(x)
        inner = _GELU_SLOPE * (1 + 3 * _GELU_CUBIC * x * x)
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)
    distribution = 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
    density = torch.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (distribution + x * density)


@rule(aten.silu.default)
def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@rule(aten.silu_backward.default)
def silu_backward(g: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@rule(aten.softplus.default)
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    z = x * beta
    return torch.where(z > threshold, x, torch.log1p(torch.exp(z)) * (1 / beta))


@rule(aten.softplus_backward.default)
def softplus_backward(g: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    z = x * beta
    return torch.where(z > threshold, g, g * torch.sigmoid(z))


@rule(aten.mish.default)
def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(softplus(x))


@rule(aten.mish_backward.default)
def mish_backward(g: Tensor, x: Tensor) -> Tensor:
    t = torch.tanh(softplus(x))
    return g * (t + x * torch.sigmoid(x) * (1 - t * t))


@rule(aten.clamp.default)
def clamp(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, torch.full((), low, dtype=x.dtype))
    return x if high is None else torch.minimum(x, torch.full((), high, dtype=x.dtype))


@rule(aten.clamp.Tensor)
def clamp_tensor(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@rule(aten.clamp_min.default)
def clamp_min(x: Tensor, low: float) -> Tensor:
    return clamp(x, low)


@rule(aten.clamp_max.default)
def clamp_max(x: Tensor, high: float) -> Tensor:
    return clamp(x, None, high)


@rule(aten.hardtanh.default)
def hardtanh(x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    return clamp(x, low, high)


@rule(aten.hardtanh_backward.default)
def hardtanh_backward(g: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    return torch.where((x <= low) | (x >= high), 0.0, g)


@rule(aten.hardsigmoid.default)
def hardsigmoid(x: Tensor) -> Tensor:
    return clamp(x + 3, 0, 6) / 6


@rule(aten.hardsigmoid_backward.default)
def hardsigmoid_backward(g: Tensor, x: Tensor) -> Tensor:
    return torch.where((x > -3.0) & (x < 3.0), g * _SIXTH, 0.0)


@rule(aten.hardswish.default)
def hardswish(x: Tensor) -> Tensor:
    return x * clamp(x + 3, 0, 6) / 6


@rule(aten.hardswish_backward.default)
def hardswish_backward(g: Tensor, x: Tensor) -> Tensor:
    return torch.where(x <= -3, 0.0, torch.where(x < 3, g * (x / 3 + 0.5), g))


@rule(aten.leaky_relu.default)
def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * slope)


@rule(aten.leaky_relu_backward.default)
def leaky_relu_backward(g: Tensor, x: Tensor, slope: float, is_result: bool) -> Tensor:
    return torch.where(x > 0, g, g * slope)


@rule(aten.elu.default)
def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, torch.expm1(x * input_scale) * (alpha * scale))


@rule(aten.elu_backward.default)
def elu_backward(
    g: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, x: Tensor
) -> Tensor:
    if is_result:
        negative = g * (input_scale * (x + alpha * scale))
    else:
        negative = g * (input_scale * alpha * scale) * torch.exp(x * input_scale)
    return torch.where(x <= 0, negative, g * scale)


@rule(aten.hardshrink.default)
def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    return torch.where((x >= -lambd) & (x <= lambd), 0.0, x)


@rule(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def shrink_backward(g: Tensor, x: Tensor, lambd: float) -> Tensor:
    return torch.where((x >= -lambd) & (x <= lambd), 0.0, g)


@rule(aten.native_dropout_backward.default)
def dropout_backward(g: Tensor, mask: Tensor, scale: float) -> Tensor:
    return torch.where(mask, g * scale, 0.0)


@rule(aten.rrelu_with_noise_backward.default)
def rrelu_backward(
    g: Tensor,
    x: Tensor,
    noise: Tensor,
    low: float,
    high: float,
    training: bool,
    is_result: bool,
) -> Tensor:
    if training and high - low > 1e-6:
        return g * noise
    return torch.where(x > 0, g, g * ((low + high) / 2))

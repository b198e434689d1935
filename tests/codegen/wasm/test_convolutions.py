"""Convolutions and both gradients as matrix products, in every geometry, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.grad import (
    conv1d_input,
    conv1d_weight,
    conv2d_input,
    conv2d_weight,
    conv3d_input,
    conv3d_weight,
)

from hearth.codegen.wasm import ConvMethod, ConvMethods
from hearth.ir.graph import ConvSpec
from hearth.ir.kernel import ConvTemplate, Store
from tests.codegen.wasm.contractions import conv_kernel
from tests.codegen.wasm.machine import Machine

Array = Any
pytestmark = pytest.mark.wasm

KINDS = ["forward", "input_grad", "weight_grad"]
FORWARD = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d,
           3: torch.nn.functional.conv3d}  # fmt: skip
INPUT = {1: conv1d_input, 2: conv2d_input, 3: conv3d_input}
WEIGHT = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}

# (channels in, out), image, kernel, stride, padding, dilation, groups
GEOMETRIES = {
    "1x1": ((5, 7), (6, 9), (1, 1), 1, 0, 1, 1),
    "3x3": ((4, 13), (8, 8), (3, 3), 1, 1, 1, 1),
    "3x3 wide": ((3, 6), (5, 40), (3, 3), 1, 1, 1, 1),
    "3x3 one channel": ((1, 32), (28, 28), (3, 3), 1, 1, 1, 1),
    "5x5 valid": ((6, 16), (14, 14), (5, 5), 1, 0, 1, 1),
    "5x5 same": ((1, 6), (28, 28), (5, 5), 1, 2, 1, 1),
    "7x7 stride 2": ((3, 8), (19, 17), (7, 7), 2, 3, 1, 1),
    "3x3 stride 2 odd": ((4, 6), (11, 10), (3, 3), 2, 1, 1, 1),
    "3x3 stride 3": ((2, 5), (13, 12), (3, 3), 3, 0, 1, 1),
    "2x2 stride 2": ((8, 3), (8, 6), (2, 2), 2, 0, 1, 1),
    "1x1 stride 2": ((8, 3), (9, 6), (1, 1), 2, 0, 1, 1),
    "dilation": ((3, 4), (12, 11), (3, 3), 1, 2, 2, 1),
    "dilation and stride": ((3, 4), (15, 14), (3, 3), 2, 3, 3, 1),
    "padding beyond the kernel": ((2, 3), (4, 4), (1, 1), 1, 2, 1, 1),
    "groups": ((6, 9), (7, 7), (3, 3), 1, 1, 1, 3),
    "depthwise": ((10, 10), (9, 9), (3, 3), 1, 1, 1, 10),
    "depthwise stride 2": ((10, 10), (9, 8), (3, 3), 2, 1, 1, 10),
    "depthwise 5x5": ((6, 6), (9, 9), (5, 5), 1, 2, 1, 6),
    "depthwise 13x13": ((3, 3), (15, 14), (13, 13), 1, 6, 1, 3),
    "depthwise times 2": ((4, 8), (9, 9), (5, 5), 2, 2, 1, 4),
    "one pixel": ((3, 5), (1, 1), (3, 3), 1, 1, 1, 1),
    "mixed": ((3, 4), (9, 12), (3, 1), (2, 1), (1, 0), (1, 1), 1),
    "many channels": ((130, 70), (5, 5), (3, 3), 1, 1, 1, 1),
    "large image": ((3, 40), (70, 66), (3, 3), 1, 1, 1, 1),
    "stride beyond the kernel": ((2, 3), (10, 11), (2, 2), 3, 1, 1, 1),
    "large image stride 2": ((3, 24), (80, 70), (3, 3), 2, 1, 1, 1),
    "stride in one axis": ((3, 4), (9, 12), (3, 3), (1, 4), (2, 1), (1, 1), 1),
    "1d": ((5, 6), (31,), (4,), 1, 2, 1, 1),
    "1d stride": ((5, 6), (32,), (5,), 3, 1, 2, 1),
    "1d long": ((1, 40), (7001,), (9,), 2, 4, 1, 1),
    "3d": ((2, 3), (5, 4, 6), (3, 2, 3), 1, 1, 1, 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_convolution_agrees_with_pytorch(name: str, kind: str) -> None:
    channels, image, window, stride, padding, dilation, groups = GEOMETRIES[name]
    rank = len(image)
    pairs = [v if isinstance(v, tuple) else (v,) * rank for v in (stride, padding, dilation)]
    spec = ConvSpec(*pairs, groups)
    for batch, with_epilogue, relaxed in ((1, True, True), (3, False, False)):
        kernel = conv_kernel(kind, channels, image, window, spec, with_epilogue=with_epilogue)
        template: Any = kernel.template
        assert isinstance(template, ConvTemplate)
        x = draw((batch, channels[0], *image), 1)
        w = draw((channels[1], channels[0] // groups, *window), 2)
        exact_y = FORWARD[rank](x, w, None, *pairs, groups)
        g = draw(tuple(exact_y.shape), 3)
        operands = {"forward": (x, w), "input_grad": (g, w), "weight_grad": (g, x)}[kind]
        exact = evaluate(kind, rank, x, w, g, pairs, groups)
        size = evaluate(kind, rank, x.abs(), w.abs(), g.abs(), pairs, groups)
        if with_epilogue:
            exact, size = exact + exact * exact, size + 2 * size * size
        buffers = [np.zeros(p.size.at(batch), np.float32) for p in kernel.params]
        for param, operand in zip((template.a, template.b), operands, strict=True):
            buffers[param] = operand.numpy().astype(np.float32).reshape(-1)
        (store,) = (s for s in kernel.stages if isinstance(s, Store))
        machine = Machine([kernel], relaxed=relaxed, methods=ConvMethods.only(ConvMethod.DIRECT))
        got = machine.run(0, buffers, batch)[store.param]
        for threads in (2, 3):  # one image: its channels are divided
            same = machine.run(0, buffers, batch, threads)[store.param]
            assert np.array_equal(same, got), threads
        terms = x.numel() * w.numel() / max(exact.numel(), 1) ** 0.5
        bound = 2.0**-24 * (8 + terms**0.25 * 4) * (size.numpy() + 1)
        error = np.abs(got.reshape(exact.shape) - exact.numpy())
        worst = np.unravel_index(np.argmax(error / bound), error.shape)
        assert (error <= bound).all(), f"{worst}: {got.reshape(exact.shape)[worst]}"


def draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(values).double()


def evaluate(kind: str, rank: int, x: torch.Tensor, w: torch.Tensor, g: torch.Tensor,
             pairs: list[Any], groups: int) -> torch.Tensor:  # fmt: skip
    if kind == "forward":
        return FORWARD[rank](x, w, None, *pairs, groups)
    if kind == "input_grad":
        return INPUT[rank](x.shape, w, g, *pairs, groups)
    return WEIGHT[rank](x, w.shape, g, *pairs, groups)

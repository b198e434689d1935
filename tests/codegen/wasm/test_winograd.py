"""Minimal filtering: exact as algebra, and convolutions by it against PyTorch in float64."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from hearth.codegen.wasm import METHODS, ConvMethod, ConvMethods
from hearth.codegen.wasm.conv_methods import filterings_of, is_possible, method_of
from hearth.codegen.wasm.cook_toom import Filtering, filtering, gradient_filtering, outputs_of
from hearth.codegen.wasm.geometry import Shape2d
from hearth.ir.graph import ConvSpec
from hearth.ir.kernel import ConvTemplate, Store
from tests.codegen.wasm.contractions import conv_kernel
from tests.codegen.wasm.machine import Machine
from tests.codegen.wasm.test_convolutions import KINDS, draw, evaluate

pytestmark = pytest.mark.wasm
WINOGRAD = [ConvMethod.WINOGRAD_2, ConvMethod.WINOGRAD_4]

# Results of a tile, taps, stride
TILES = [
    (outputs, taps, stride)
    for most in (1, 2, 4)
    for taps in (1, 2, 3, 4, 5)
    for stride in (1, 2, 3)
    if (outputs := outputs_of(most, taps, stride)) > 0
]

# (channels in, out), image, padding
GEOMETRIES = {
    "whole tiles": ((8, 16), (8, 8), (1, 1)),
    "odd channels": ((5, 7), (9, 10), (1, 1)),
    "one channel": ((1, 1), (6, 5), (1, 1)),
    "prime image": ((4, 6), (13, 11), (1, 1)),
    "no padding": ((6, 9), (11, 14), (0, 0)),
    "padding 2": ((3, 10), (7, 6), (2, 2)),
    "padding 4": ((3, 5), (5, 4), (4, 3)),
    "padding in one axis": ((4, 4), (5, 8), (0, 1)),
    "one pixel": ((3, 5), (1, 1), (1, 1)),
    "two pixels": ((9, 4), (2, 1), (1, 1)),
    "three rows": ((2, 12), (3, 3), (0, 0)),
    "blocks of rows": ((24, 40), (45, 37), (1, 1)),
    "threads divide channels": ((6, 50), (3, 3), (1, 1)),
    "sums of sums": ((300, 12), (5, 5), (1, 1)),
}

# (channels in, out), image, window, stride, padding
STRIDED = {
    "stride 2": ((8, 16), (8, 8), (3, 3), (2, 2), (1, 1)),
    "stride 2, odd image": ((5, 7), (9, 11), (3, 3), (2, 2), (1, 1)),
    "stride 2, even image, no padding": ((5, 9), (10, 12), (3, 3), (2, 2), (0, 0)),
    "stride 2, padding 2": ((3, 6), (7, 8), (3, 3), (2, 2), (2, 3)),
    "stride 2 to one pixel": ((6, 5), (2, 1), (3, 3), (2, 2), (1, 1)),
    "stride 2, blocks of rows": ((24, 40), (90, 74), (3, 3), (2, 2), (1, 1)),
    "stride 2, threads divide channels": ((6, 50), (5, 6), (3, 3), (2, 2), (1, 1)),
    "stride in one axis": ((4, 9), (8, 9), (3, 3), (1, 2), (1, 1)),
    "4x4 stride 2": ((6, 10), (12, 10), (4, 4), (2, 2), (1, 1)),
    "3x3 stride 3": ((4, 5), (13, 11), (3, 3), (3, 3), (1, 0)),
    "5x5": ((6, 16), (14, 14), (5, 5), (1, 1), (0, 0)),
    "2x2": ((6, 16), (9, 8), (2, 2), (1, 1), (0, 1)),
    "3x1": ((5, 8), (9, 8), (3, 1), (1, 1), (1, 0)),
    "1x3": ((5, 8), (9, 8), (1, 3), (1, 1), (0, 1)),
    "1d": ((5, 8), (37,), (3,), (1,), (1,)),
    "1d stride": ((6, 9), (38,), (4,), (2,), (2,)),
    "1d long": ((1, 40), (7001,), (3,), (1,), (1,)),
}


@pytest.mark.parametrize(("outputs", "taps", "stride"), TILES)
def test_filtering_is_exact(outputs: int, taps: int, stride: int) -> None:
    own = filtering(outputs, taps, stride)
    data, filter_, results = exact_tile(own)
    assert results == [
        sum(data[stride * i + k] * filter_[k] for k in range(taps)) for i in range(outputs)
    ]


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize(("outputs", "taps", "stride"), TILES)
def test_the_gradient_by_filtering_is_exact(
    outputs: int, taps: int, stride: int, padding: int
) -> None:
    own = gradient_filtering(outputs, taps, stride, padding)
    data, filter_, results = exact_tile(own)
    exact = [Fraction(0)] * (outputs * stride)
    for i, value in enumerate(data):
        for k, weight in enumerate(filter_):
            at = stride * (i - own.padding) + k - padding
            if 0 <= at < len(exact):
                exact[at] += value * weight
    assert results == exact


def exact_tile(own: Filtering) -> tuple[list[Fraction], list[Fraction], list[Fraction]]:
    """Random data and taps, and the results of a tile."""
    source = random.Random(own.size)
    data, taps = (
        [Fraction(source.randint(-9, 9)) for _ in range(count)] for count in (own.inputs, own.taps)
    )
    pairs = zip(times(own.filter, taps), times(own.data, data), strict=True)
    return data, taps, times(own.result, [a * b for a, b in pairs])


def times(matrix: Any, vector: list[Fraction]) -> list[Fraction]:
    return [sum(c * v for c, v in zip(row, vector, strict=True)) for row in matrix]


def test_constants_are_exact_in_float32_where_data_and_results_meet_them() -> None:
    for tile in TILES:
        own = filtering(*tile)
        for c in (c for matrix in (own.data, own.result) for row in matrix for c in row):
            assert Fraction(float(np.float32(float(c)))) == c


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", WINOGRAD)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_convolution_by_tiles_agrees_with_pytorch(
    name: str, method: ConvMethod, kind: str
) -> None:
    channels, image, padding = GEOMETRIES[name]
    spec = ConvSpec((1, 1), padding, (1, 1), 1)
    for batch, with_epilogue, relaxed, threads in ((1, True, True, 2), (3, False, False, 1)):
        check(channels, image, (3, 3), spec, kind, method, batch, with_epilogue, relaxed, threads)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", WINOGRAD)
@pytest.mark.parametrize("name", STRIDED)
def test_other_windows_and_strides_by_tiles_agree_with_pytorch(
    name: str, method: ConvMethod, kind: str
) -> None:
    channels, image, window, stride, padding = STRIDED[name]
    spec = ConvSpec(stride, padding, (1,) * len(image), 1)
    kernel = conv_kernel(kind, channels, image, window, spec, with_epilogue=False)
    if not is_possible(kernel, method):
        assert (max(window), max(stride), method) == (5, 1, ConvMethod.WINOGRAD_2)
        return
    for batch, with_epilogue, relaxed, threads in ((1, True, True, 2), (3, False, False, 1)):
        check(channels, image, window, spec, kind, method, batch, with_epilogue, relaxed, threads)


def check(channels: tuple[int, int], image: tuple[int, ...], window: tuple[int, ...],
          spec: ConvSpec, kind: str, method: ConvMethod, batch: int, with_epilogue: bool,
          relaxed: bool, threads: int) -> None:  # fmt: skip
    kernel = conv_kernel(kind, channels, image, window, spec, with_epilogue=with_epilogue)
    template: Any = kernel.template
    assert isinstance(template, ConvTemplate)
    allowed = ConvMethods((method,), (method,))
    assert method_of(kernel, allowed) == method
    x, w = draw((batch, channels[0], *image), 1), draw((*channels[::-1], *window), 2)
    g = draw((batch, channels[1], *template.out_spatial), 3)
    pairs = [spec.stride, spec.padding, spec.dilation]
    exact = evaluate(kind, len(image), x, w, g, pairs, 1)
    filterings = filterings_of(Shape2d.of(template), kind, method)
    assert filterings is not None
    bound = winograd_bound(kind, x, w, g, filterings)
    if with_epilogue:
        bound = bound * (1 + 2 * float(exact.abs().max())) + bound**2
        exact = exact + exact * exact
    operands = {"forward": (x, w), "input_grad": (g, w), "weight_grad": (g, x)}[kind]
    buffers = [np.zeros(p.size.at(batch), np.float32) for p in kernel.params]
    for param, operand in zip((template.a, template.b), operands, strict=True):
        buffers[param] = operand.numpy().astype(np.float32).reshape(-1)
    (store,) = (s for s in kernel.stages if isinstance(s, Store))
    machine = Machine([kernel], relaxed=relaxed, methods=allowed)
    got, other = (
        machine.run(0, buffers, batch, n)[store.param].reshape(exact.shape)
        for n in (threads, threads % 2 + 1)
    )
    assert np.array_equal(got, other)
    error = np.abs(got - exact.numpy())
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert error.max() <= bound, f"{worst}: {got[worst]}, exactly {exact.numpy()[worst]}"
    largest = float(exact.abs().max())
    assert error.max() <= 1e-5 * max(largest, 1.0)


def winograd_bound(kind: str, x: torch.Tensor, w: torch.Tensor, g: torch.Tensor,
                   filterings: tuple[Filtering, Filtering]) -> float:  # fmt: skip
    """How far rounding may move any result.

    Every product of a tile is rounded relative to the absolute values that flow through it: at most
    the largest datum times the sum of one result's filter, times `growth` along each axis.
    """
    if kind == "weight_grad":
        largest, total, terms = (
            x.abs().max(),
            g.abs().transpose(0, 1).flatten(1).sum(1).max(),
            g[:, 0].numel(),
        )
    else:
        is_forward = kind == "forward"
        sums = (w if is_forward else w.transpose(0, 1)).abs().flatten(1).sum(1)
        largest, total = (x if is_forward else g).abs().max(), sums.max()
        terms = w[0].numel() if is_forward else w[:, 0].numel()
    roundings = 8 + terms**0.5  # of a sum: they are independent
    grown = growth(filterings[0]) * growth(filterings[1])
    return float(2.0**-24 * roundings * grown * largest * total)


def growth(own: Filtering) -> float:
    """What the absolute values of a unit filter and unit data become on their way to a result."""
    return max(
        sum(
            float(abs(a * g) * sum(abs(b) for b in row))
            for a, g, row in zip(result, taps, own.data, strict=True)
        )
        for result in own.result
        for taps in zip(*own.filter, strict=True)
    )


def test_the_shape_decides_the_method() -> None:
    spec = ConvSpec((1, 1), (1, 1), (1, 1), 1)
    for channels, size, fast, strict in (
        ((32, 64), 28, ConvMethod.WINOGRAD_4, ConvMethod.WINOGRAD_2),
        ((1, 32), 28, ConvMethod.DIRECT, ConvMethod.DIRECT),
        ((64, 64), 2, ConvMethod.WINOGRAD_2, ConvMethod.WINOGRAD_2),
    ):
        kernel = conv_kernel("forward", channels, (size, size), (3, 3), spec, with_epilogue=False)
        assert method_of(kernel, METHODS["fast"]) == fast
        assert method_of(kernel, METHODS["strict"]) == strict


def test_strict_weight_gradients_are_direct() -> None:
    spec = ConvSpec((1, 1), (1, 1), (1, 1), 1)
    kernel = conv_kernel("weight_grad", (32, 64), (28, 28), (3, 3), spec, with_epilogue=False)
    assert method_of(kernel, METHODS["fast"]) == ConvMethod.WINOGRAD_4
    assert method_of(kernel, METHODS["strict"]) == ConvMethod.DIRECT


def test_dilations_and_groups_are_direct() -> None:
    for dilation, groups in ((2, 1), (1, 2)):
        spec = ConvSpec((1, 1), (1, 1), (dilation, dilation), groups)
        kernel = conv_kernel("forward", (32, 64), (28, 28), (3, 3), spec, with_epilogue=False)
        assert method_of(kernel, METHODS["fast"]) == ConvMethod.DIRECT


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_may_hold_two_methods_and_takes_the_one_for_its_batch(kind: str) -> None:
    spec = ConvSpec((1, 1), (1, 1), (1, 1), 1)
    kernel = conv_kernel(kind, (40, 40), (4, 4), (3, 3), spec, with_epilogue=False)
    methods = {batch: method_of(kernel, METHODS["fast"], batch) for batch in (1, 5, 6, 9)}
    assert (methods[1], methods[9]) == (ConvMethod.WINOGRAD_2, ConvMethod.WINOGRAD_4)
    machine = Machine([kernel])
    for batch, method in methods.items():
        assert method is not None
        buffers = [
            draw((p.size.at(batch),), seed).numpy().astype(np.float32)
            for seed, p in enumerate(kernel.params)
        ]
        alone = Machine([kernel], methods=ConvMethods.only(method)).run(0, buffers, batch)
        for threads in (1, 2):
            for got, exact in zip(machine.run(0, buffers, batch, threads), alone, strict=True):
                assert np.array_equal(got, exact)

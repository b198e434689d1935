"""Convolutions by Fourier transforms: the transforms against NumPy, all passes against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import wasmtime
from torch import nn

import hearth
from hearth.codegen.wasm import METHODS, ConvMethod, ConvMethods
from hearth.codegen.wasm.assembler import Function
from hearth.codegen.wasm.butterflies import (
    COMPLEX_BYTES,
    ROOT_BYTES,
    fill_roots,
    passes,
    radices,
    transform_pass,
)
from hearth.codegen.wasm.conv_methods import is_possible, method_of
from hearth.codegen.wasm.fourier_tiling import SIZES
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.opcodes import I32
from hearth.ir.graph import ConvSpec
from hearth.ir.kernel import ConvTemplate, Store
from tests.codegen.wasm.contractions import conv_kernel
from tests.codegen.wasm.machine import Machine
from tests.codegen.wasm.test_convolutions import KINDS, draw, evaluate

pytestmark = pytest.mark.wasm
FOURIER = ConvMethods.only(ConvMethod.FOURIER)
LARGEST_ERROR = 1e-6  # of the largest result; measured: 3e-7, 9e-7 of sums over 100000 positions

# channels in, out, groups; image; window; padding
GEOMETRIES = {
    "one tile": ((8, 8, 8), (14, 14), (7, 7), (3, 3)),
    "odd channels": ((5, 5, 5), (12, 11), (7, 7), (3, 3)),
    "one channel": ((1, 1, 1), (15, 9), (9, 5), (4, 2)),
    "no padding": ((3, 3, 3), (20, 30), (5, 11), (0, 0)),
    "padding beyond the window": ((2, 2, 2), (9, 9), (3, 3), (5, 4)),
    "a window larger than the image": ((4, 4, 4), (6, 5), (31, 31), (15, 15)),
    "31x31": ((6, 6, 6), (28, 28), (31, 31), (15, 15)),
    "an even window": ((3, 3, 3), (17, 19), (12, 8), (5, 3)),
    "many tiles": ((5, 5, 5), (151, 140), (13, 13), (6, 6)),
    "51x5": ((3, 3, 3), (60, 64), (51, 5), (25, 2)),
    "one row": ((3, 3, 3), (20, 24), (1, 9), (0, 4)),
    "to one pixel": ((4, 4, 4), (7, 7), (7, 7), (0, 0)),
    "threads divide images": ((4, 4, 4), (10, 10), (5, 5), (2, 2)),
    "1d": ((6, 6, 6), (187,), (15,), (7,)),
    "1d long": ((3, 3, 3), (3000,), (51,), (25,)),
    "1d without padding": ((2, 2, 2), (301,), (20,), (0,)),
    "1d one tile": ((4, 4, 4), (40,), (63,), (31,)),
    "1d as a column": ((3, 3, 3), (100000,), (31,), (2,)),
    "dense": ((8, 16, 1), (14, 14), (7, 7), (3, 3)),
    "dense, odd channels": ((5, 7, 1), (12, 11), (7, 6), (3, 2)),
    "dense, one source": ((1, 20, 1), (28, 28), (5, 5), (2, 2)),
    "dense, one target": ((6, 1, 1), (13, 17), (9, 9), (0, 0)),
    "dense, many tiles": ((9, 12, 1), (85, 90), (5, 5), (2, 2)),
    "dense, blocks of channels": ((300, 70, 1), (6, 6), (5, 5), (2, 2)),
    "dense, threads divide channels": ((6, 50, 1), (9, 9), (5, 5), (4, 4)),
    "dense, 31x31": ((4, 6, 1), (28, 28), (31, 31), (15, 15)),
    "dense 1d": ((12, 16, 1), (187,), (15,), (7,)),
    "dense 1d, one source": ((1, 20, 1), (5000,), (251,), (0,)),
    "dense 1d, many tiles": ((70, 40, 1), (3000,), (9,), (4,)),
}


@pytest.mark.parametrize("is_inverse", [False, True])
@pytest.mark.parametrize("size", [n for n in SIZES if n <= 128 or n % 100 == 0])
def test_a_transform_agrees_with_numpy(size: int, is_inverse: bool) -> None:
    values = np.random.default_rng(size).standard_normal((size, 2, 4)).astype(np.float32)
    got = transformed(values, is_inverse)
    sequence = values[:, 0].astype(np.float64) + 1j * values[:, 1]
    exact = np.fft.ifft(sequence, axis=0) * size if is_inverse else np.fft.fft(sequence, axis=0)
    error = np.abs(got[:, 0] + 1j * got[:, 1] - exact).max()
    assert error < 3e-7 * np.abs(exact).max()


def transformed(values: Any, is_inverse: bool) -> Any:
    target, (size, _, _) = Target.new(), values.shape
    f = Function("run", (I32, I32))
    at, roots = f.param(0), f.param(1)
    fill_roots(f, roots, size)
    own = passes(size, is_inverse=is_inverse)
    for i, pass_ in enumerate(own):
        form = transform_pass(target.maths, pass_, COMPLEX_BYTES, COMPLEX_BYTES, 1)
        f.perform(f.call(form, *(at + (i + j) * size * COMPLEX_BYTES for j in range(2)), roots))
    target.module.export(f)
    store = wasmtime.Store()
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(16, 65536)))
    compiled = wasmtime.Module(store.engine, target.module.encode())
    memory.write(store, values.tobytes(), 4096)
    end = 4096 + size * COMPLEX_BYTES * len(own)
    run: Any = wasmtime.Instance(store, compiled, [memory]).exports(store)["run"]
    run(store, 4096, end + size * COMPLEX_BYTES)
    assert end + size * (COMPLEX_BYTES + ROOT_BYTES) < memory.data_len(store)
    result = memory.read(store, end, end + size * COMPLEX_BYTES)
    return np.frombuffer(result, np.float32).reshape(values.shape)


def test_sizes_without_a_transform_are_known() -> None:
    assert radices(14) is None
    assert radices(48) == (3, 4, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_convolution_by_transforms_agrees_with_pytorch(name: str, kind: str) -> None:
    (inputs, outputs, groups), image, window, padding = GEOMETRIES[name]
    rank = len(image)
    spec = ConvSpec((1,) * rank, padding, (1,) * rank, groups)
    for batch, with_epilogue, relaxed in ((1, True, True), (3, False, False)):
        kernel = conv_kernel(
            kind, (inputs, outputs), image, window, spec, with_epilogue=with_epilogue
        )
        assert method_of(kernel, FOURIER) == ConvMethod.FOURIER
        x, w, g = operands_of(kernel, batch, (inputs, outputs, groups))
        pairs = [spec.stride, spec.padding, spec.dilation]
        exact = evaluate(kind, rank, x, w, g, pairs, groups).numpy()
        largest = float(np.abs(exact).max())
        if with_epilogue:
            exact, largest = exact + exact * exact, largest * (1 + 2 * largest)
        machine = Machine([kernel], relaxed=relaxed, methods=FOURIER)
        got, *others = (
            run(machine, kernel, x, w, g, threads).reshape(exact.shape) for threads in (1, 2, 3)
        )
        assert all(np.array_equal(got, other) for other in others)
        error = np.abs(got - exact)
        worst = np.unravel_index(np.argmax(error), error.shape)
        assert error.max() <= LARGEST_ERROR * largest, f"{worst}: {got[worst]}, {exact[worst]}"


def operands_of(kernel: Any, batch: int, channels: tuple[int, int, int]) -> list[torch.Tensor]:
    t, (inputs, outputs, groups) = kernel.template, channels
    assert isinstance(t, ConvTemplate)
    shapes = (
        (batch, inputs, *t.in_spatial),
        (outputs, inputs // groups, *t.kernel),
        (batch, outputs, *t.out_spatial),
    )
    return [draw(shape, seed) for seed, shape in enumerate(shapes, 1)]


def run(machine: Machine, kernel: Any, x: torch.Tensor, w: torch.Tensor, g: torch.Tensor,
        threads: int = 1) -> Any:  # fmt: skip
    t, batch = kernel.template, x.shape[0]
    operands = {"forward": (x, w), "input_grad": (g, w), "weight_grad": (g, x)}[t.kind]
    buffers = [np.zeros(p.size.at(batch), np.float32) for p in kernel.params]
    for param, operand in zip((t.a, t.b), operands, strict=True):
        buffers[param] = operand.numpy().astype(np.float32).reshape(-1)
    (store,) = (s for s in kernel.stages if isinstance(s, Store))
    return machine.run(0, buffers, batch, threads)[store.param]


@pytest.mark.parametrize("name", ["31x31", "1d", "dense", "dense 1d"])
def test_an_image_does_not_depend_on_its_neighbours(name: str) -> None:
    channels, image, window, padding = GEOMETRIES[name]
    rank = len(image)
    spec = ConvSpec((1,) * rank, padding, (1,) * rank, channels[2])
    kernel = conv_kernel("forward", channels[:2], image, window, spec, with_epilogue=False)
    machine = Machine([kernel], methods=FOURIER)
    x, w, g = operands_of(kernel, 3, channels)
    x[1, 2] = np.nan
    got = run(machine, kernel, x, w, g).reshape(3, channels[1], -1)
    for i in (0, 2):
        alone = run(machine, kernel, x[i : i + 1], w, g)
        assert np.array_equal(got[i].reshape(-1), alone)
    reached = np.isnan(got[1]).any(1)
    assert reached.tolist() == [channels[2] == 1 or c == 2 for c in range(channels[1])]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_no_datum_reaches_have_no_gradient(kind: str) -> None:
    channels, image, window, padding = GEOMETRIES["a window larger than the image"]
    spec = ConvSpec((1, 1), padding, (1, 1), channels[2])
    kernel = conv_kernel(kind, channels[:2], image, window, spec, with_epilogue=False)
    x, w, g = operands_of(kernel, 2, channels)
    got = run(Machine([kernel], methods=FOURIER), kernel, x, w, g)
    if kind == "weight_grad":
        weights = got.reshape(channels[1], *window).copy()
        weights[:, 10:21, 11:20] = 0  # image 6x5: five rows and four columns to every side
        assert not weights.any()
        return
    w[:, :, 10:21, 11:20] = 0
    others = run(Machine([kernel], methods=FOURIER), kernel, x, w, g)
    assert not others.any()


def test_strides_dilations_and_shared_inputs_go_other_ways() -> None:
    for stride, dilation, channels, groups, window in (
        (2, 1, (4, 4), 4, 7), (1, 2, (4, 4), 4, 7), (1, 1, (4, 8), 4, 7), (1, 1, (8, 8), 4, 7),
        (1, 1, (4, 4), 4, 1), (2, 1, (4, 4), 1, 7), (1, 2, (4, 4), 1, 7), (1, 1, (4, 4), 1, 1),
    ):  # fmt: skip
        spec = ConvSpec((stride,) * 2, (3, 3), (dilation,) * 2, groups)
        kernel = conv_kernel(
            "forward", channels, (20, 20), (window,) * 2, spec, with_epilogue=False
        )
        assert not is_possible(kernel, ConvMethod.FOURIER)
        assert method_of(kernel, FOURIER) == ConvMethod.DIRECT


def test_transforms_take_no_more_memory_than_a_page_can_spare() -> None:
    for channels, is_small in ((64, True), (512, False)):
        spec = ConvSpec((1, 1), (15, 15), (1, 1), 1)
        kernel = conv_kernel(
            "forward", (channels, channels), (14, 14), (31, 31), spec, with_epilogue=False
        )
        assert is_possible(kernel, ConvMethod.FOURIER) == is_small
        if is_small:
            assert Machine([kernel], methods=FOURIER).module.scratch_bytes < 24 << 20


@pytest.mark.parametrize(
    ("window", "fast"),
    [(3, ConvMethod.DIRECT), (7, ConvMethod.FOURIER), (31, ConvMethod.FOURIER)],
)
def test_the_window_decides_and_strict_weight_gradients_are_direct(
    window: int, fast: ConvMethod
) -> None:
    spec = ConvSpec((1, 1), (window // 2,) * 2, (1, 1), 64)
    forward, weights = (
        conv_kernel(kind, (64, 64), (28, 28), (window,) * 2, spec, with_epilogue=False)
        for kind in ("forward", "weight_grad")
    )
    assert method_of(forward, METHODS["fast"]) == method_of(weights, METHODS["fast"]) == fast
    assert method_of(forward, METHODS["strict"]) == fast
    assert method_of(weights, METHODS["strict"]) == ConvMethod.DIRECT


class LargeKernelBlock(nn.Module):
    """Of RepLKNet (Ding et al., 2022): a 31x31 and a parallel 5x5 window between 1x1 layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def depthwise(window: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(channels, channels, window, padding=window // 2, groups=channels,
                          bias=False),
                nn.BatchNorm2d(channels),
            )  # fmt: skip

        self.before = nn.Sequential(
            nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 1), nn.ReLU()
        )
        self.large, self.small = depthwise(31), depthwise(5)
        self.after = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.before(x)
        result: torch.Tensor = x + self.after(self.large(own) + self.small(own))
        return result


def test_a_model_with_31x31_windows_trains_like_pytorch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), LargeKernelBlock(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    )  # fmt: skip
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters()))
    bundle = hearth.compile(step, torch.zeros(4, 3, 20, 20), torch.arange(4), backends=["wasm"])
    report = hearth.verify(bundle, "wasm", cases=2, step=step)
    assert report.ok, str(report)

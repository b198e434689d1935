"""Convolutions on WebAssembly in Chromium next to PyTorch, one thread each, in one run.

python -m bench.wasm_convolutions [--simd] [--batch B] [NAME ...]     those whose names begin so

Every method that can compute it, and its largest error over the largest result (of two images);
`*` marks the method that `hearth/codegen/wasm/conv_methods.py` chooses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.chromium import Browser, Workload
from bench.wasm_products import best_ms
from hearth.codegen.wasm import METHODS, ConvMethod, ConvMethods
from hearth.codegen.wasm.conv_methods import is_possible, method_of
from hearth.ir.graph import ConvSpec
from hearth.ir.kernel import ConvTemplate, Kernel
from tests.codegen.wasm.contractions import conv_kernel
from tests.codegen.wasm.machine import Machine

KINDS = ("forward", "input_grad", "weight_grad")


@dataclass(frozen=True)
class Convolution:
    """Padded so that a stride of 1 keeps the size."""

    inputs: int
    outputs: int
    size: int
    window: int = 3
    stride: int = 1
    groups: int = 1
    rank: int = 2

    def __str__(self) -> str:
        extra = f" /{self.stride}" if self.stride > 1 else ""
        extra += f" groups {self.groups}" if self.groups > 1 else ""
        window = "x".join([f"{self.window}"] * self.rank)
        return f"{window} {self.inputs}->{self.outputs} {self.size}{extra}"

    @property
    def spec(self) -> ConvSpec:
        padding = self.window // 2
        return ConvSpec(
            (self.stride,) * self.rank, (padding,) * self.rank, (1,) * self.rank, self.groups
        )

    def kernel(self, kind: str) -> Kernel:
        return conv_kernel(
            kind, (self.inputs, self.outputs), (self.size,) * self.rank,
            (self.window,) * self.rank, self.spec, with_epilogue=False,
        )  # fmt: skip

    def operands(self, batch: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """The input, the weights, the gradient of the output."""
        torch.manual_seed(0)
        x = torch.randn(batch, self.inputs, *(self.size,) * self.rank)
        w = torch.randn(self.outputs, self.inputs // self.groups, *(self.window,) * self.rank)
        size = -(-self.size // self.stride)
        g = torch.randn(batch, self.outputs, *(size,) * self.rank)
        return x.to(dtype), w.to(dtype), g.to(dtype)

    def in_torch(self, kind: str, x: torch.Tensor, w: torch.Tensor,
                 g: torch.Tensor) -> Callable[[], Any]:  # fmt: skip
        s = self.spec
        if kind == "forward":
            convolve = torch.conv2d if self.rank == 2 else torch.conv1d
            return lambda: convolve(x, w, None, s.stride, s.padding, s.dilation, s.groups)
        mask = [kind == "input_grad", kind == "weight_grad", False]
        return lambda: torch.ops.aten.convolution_backward(
            g, x, w, None, s.stride, s.padding, s.dilation, False, [0] * self.rank, s.groups, mask
        )[mask.index(True)]


CONVOLUTIONS = (
    Convolution(1, 32, 28), Convolution(32, 64, 28), Convolution(64, 64, 14),
    Convolution(3, 64, 32), Convolution(64, 64, 32), Convolution(128, 128, 16),
    Convolution(256, 256, 8), Convolution(512, 512, 4), Convolution(16, 16, 28),
    Convolution(8, 16, 14), Convolution(64, 64, 7), Convolution(64, 64, 2),
    Convolution(64, 128, 32, stride=2), Convolution(128, 256, 16, stride=2),
    Convolution(256, 512, 8, stride=2), Convolution(3, 32, 64, stride=2),
    Convolution(64, 64, 28, groups=64), Convolution(128, 128, 14, stride=2, groups=128),
    Convolution(64, 128, 14, window=1), Convolution(256, 64, 7, window=1),
    Convolution(1, 6, 28, window=5), Convolution(6, 16, 14, window=5),
    Convolution(32, 64, 14, window=5), Convolution(3, 64, 32, window=7, stride=2),
    Convolution(64, 64, 14, window=7, groups=64),
)  # fmt: skip


def measure(browser: Browser, own: Convolution, batch: int, relaxed: bool) -> None:
    kernels = {kind: own.kernel(kind) for kind in KINDS}
    methods = [m for m in ConvMethod if is_possible(kernels["forward"], m)]
    times = {
        m: browser.times_ms(
            Workload(kernels, batch, ConvMethods.only(m)), relaxed=relaxed, rounds=5
        )
        for m in methods
    }
    for kind, kernel in kernels.items():
        torch_ms = best_ms(own.in_torch(kind, *own.operands(batch, torch.float32)), rounds=5)
        chosen = method_of(kernel, METHODS["fast"], batch)
        assert chosen is not None
        columns = "  ".join(
            f"{m.name.lower():>10s} {times[m][kind]:7.3f}{'*' if m == chosen else ' '}"
            f"{error(own, kind, kernel, m):7.1e}"
            for m in methods
        )
        ratio = times[chosen][kind] / torch_ms
        print(f"{own!s:26s} {kind:12s} torch {torch_ms:7.3f} ratio {ratio:5.2f}  {columns}",
              flush=True)  # fmt: skip


def error(own: Convolution, kind: str, kernel: Kernel, method: ConvMethod) -> float:
    x, w, g = own.operands(2, torch.float64)
    exact = own.in_torch(kind, x, w, g)().numpy().reshape(-1)
    t = kernel.template
    assert isinstance(t, ConvTemplate)
    buffers = [np.zeros(p.size.at(2), np.float32) for p in kernel.params]
    operands = {"forward": (x, w), "input_grad": (g, w), "weight_grad": (g, x)}[kind]
    for param, operand in zip((t.a, t.b), operands, strict=True):
        buffers[param] = operand.float().numpy().reshape(-1)
    output = next(i for i in range(3) if i not in (t.a, t.b))
    got = Machine([kernel], methods=ConvMethods.only(method)).run(0, buffers, 2)[output]
    return float(np.abs(got - exact).max() / np.abs(exact).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[""])
    parser.add_argument("--simd", action="store_true", help="without relaxed SIMD")
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"B={given.batch}: best ms, and the largest error")
    with Browser() as browser:
        for own in CONVOLUTIONS:
            if str(own).startswith(tuple(given.names)):
                measure(browser, own, given.batch, not given.simd)


if __name__ == "__main__":
    main()

"""Speed of the WebAssembly kernels in Chromium next to PyTorch, one thread each, in one run.

export PYTHONPATH=.
python bench/wasm_kernels.py products          matrix products
python bench/wasm_kernels.py convolutions [C]  3x3, every method; only those that begin with C

wasm_steps.py measures whole training steps, and their kernels in place.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from chromium import Browser, Workload
from torch.nn.grad import conv2d_input, conv2d_weight

from hearth.codegen.wasm import METHODS, ConvMethod, ConvMethods
from hearth.codegen.wasm.conv_methods import method_of
from hearth.ir.dim import B
from hearth.ir.graph import ConvSpec
from hearth.ir.kernel import ConvTemplate, DotTemplate, Kernel
from tests.codegen.wasm.contractions import conv_kernel, dot_kernel
from tests.codegen.wasm.machine import Machine

BATCH = 32
PRODUCTS: dict[str, tuple[Any, Any, Any, bool, bool]] = {
    "fwd (B,784)x(128,784)T": (B, 128, 784, False, True),
    "dW (B,128)Tx(B,784)": (128, 784, B, True, False),
    "dX (B,128)x(128,784)": (B, 784, 128, False, False),
    "fwd (B,128)x(10,128)T": (B, 10, 128, False, True),
    "512^3 NN": (512, 512, 512, False, False),
    "512^3 NT": (512, 512, 512, False, True),
    "512^3 TN": (512, 512, 512, True, False),
}
CONVOLUTIONS = {f"{c}->{o} {size}x{size}": ((c, o), size) for c, o, size in (
    (1, 32, 28), (32, 64, 28), (64, 64, 14), (3, 64, 32), (64, 64, 32), (128, 128, 16),
    (256, 256, 8), (512, 512, 4), (16, 16, 28), (8, 16, 14),
)}  # fmt: skip
KINDS = ("forward", "input_grad", "weight_grad")


def best_ms(run: Callable[[], Any], seconds: float = 0.02, rounds: int = 15) -> float:
    best = float("inf")
    for _ in range(rounds):
        calls = 1
        while True:
            begin = time.perf_counter()
            for _ in range(calls):
                run()
            elapsed = time.perf_counter() - begin
            if elapsed > seconds:
                best = min(best, elapsed / calls)
                break
            calls *= 2
    return best * 1e3


def products(browser: Browser) -> None:
    kernels = {
        name: dot_kernel((), m, n, k, transpose_a=ta, transpose_b=tb, with_epilogue=False)
        for name, (m, n, k, ta, tb) in PRODUCTS.items()
    }
    report(browser, kernels, {name: torch_product(k) for name, k in kernels.items()})


def torch_product(kernel: Kernel) -> Callable[[], Any]:
    t = kernel.template
    assert isinstance(t, DotTemplate)
    m, n, k = (d.at(BATCH) for d in (t.m, t.n, t.k))
    a = torch.rand((k, m)).T if t.transpose_a else torch.rand((m, k))
    b = torch.rand((n, k)).T if t.transpose_b else torch.rand((k, n))
    return lambda: a @ b


def convolutions(browser: Browser) -> None:
    """Every method beside PyTorch, and its largest error over the largest result (of two images).

    `*` marks the method that the shape rule chooses.
    """
    print(f"B={BATCH}: ms{'':29s} direct     F2     F4   torch    best/torch   errors")
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, (channels, size) in CONVOLUTIONS.items():
        if not name.startswith(only):
            continue
        kernels = {kind: same_convolution(kind, channels, size) for kind in KINDS}
        times = {
            method: browser.times_ms(Workload(kernels, BATCH, ConvMethods.only(method)), rounds=7)
            for method in ConvMethod
        }
        for kind, kernel in kernels.items():
            torch_ms = best_ms(torch_convolution(kind, channels, size), rounds=7)
            errors = [conv_error(kernel, method) for method in ConvMethod]
            chosen = method_of(kernel, METHODS["fast"])
            columns = " ".join(
                f"{times[m][kind]:7.3f}{'*' if m == chosen else ' '}" for m in ConvMethod
            )
            print(f"{name:20s} {kind:12s} {columns} {torch_ms:7.3f} "
                  f"{times[chosen][kind] / torch_ms:6.2f}       "
                  + " ".join(f"{e:.1e}" for e in errors), flush=True)  # fmt: skip


def same_convolution(kind: str, channels: tuple[int, int], size: int) -> Kernel:
    spec = ConvSpec((1, 1), (1, 1), (1, 1), 1)
    return conv_kernel(kind, channels, (size, size), (3, 3), spec, with_epilogue=False)


def conv_error(kernel: Kernel, method: ConvMethod) -> float:
    t = kernel.template
    assert isinstance(t, ConvTemplate)
    random = np.random.default_rng(0)
    buffers = [random.standard_normal(p.size.at(2)).astype(np.float32) for p in kernel.params]
    output = next(i for i in range(3) if i not in (t.a, t.b))
    exact = exact_convolution(t, buffers[t.a], buffers[t.b])
    machine = Machine([kernel], methods=ConvMethods.only(method))
    got = machine.run(0, buffers, 2)[output]
    return float(np.abs(got - exact).max() / np.abs(exact).max())


def exact_convolution(t: ConvTemplate, a: Any, b: Any) -> Any:
    x = (2, t.in_channels, *t.in_spatial)
    g = (2, t.out_channels, *t.out_spatial)
    w = (t.out_channels, t.in_channels, *t.kernel)
    shapes = {"forward": (x, w), "input_grad": (g, w), "weight_grad": (g, x)}[t.kind]
    first, second = (
        torch.from_numpy(v.reshape(s)).double() for v, s in zip((a, b), shapes, strict=True)
    )
    exact = {
        "forward": lambda: torch.nn.functional.conv2d(first, second, padding=t.spec.padding),
        "input_grad": lambda: conv2d_input(x, second, first, padding=t.spec.padding),
        "weight_grad": lambda: conv2d_weight(second, w, first, padding=t.spec.padding),
    }[t.kind]()
    return exact.numpy().reshape(-1)


def torch_convolution(kind: str, channels: tuple[int, int], size: int) -> Callable[[], Any]:
    x = torch.rand(BATCH, channels[0], size, size)
    w = torch.rand(channels[1], channels[0], 3, 3)
    g = torch.rand(BATCH, channels[1], size, size)
    if kind == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, padding=1)
    mask = [kind == "input_grad", kind == "weight_grad", False]

    def backward() -> Any:
        return torch.ops.aten.convolution_backward(
            g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
        )

    return backward


def report(browser: Browser, kernels: dict[str, Kernel],
           references: dict[str, Callable[[], Any]]) -> None:  # fmt: skip
    relaxed = browser.times_ms(Workload(kernels, BATCH))
    simd = browser.times_ms(Workload(kernels, BATCH), relaxed=False)
    print(f"{'B=32':28s} relaxed ms  GF/s   simd ms  GF/s  torch ms  relaxed/torch")
    for name, kernel in kernels.items():
        gflop = operations(kernel) / 1e9
        torch_ms = best_ms(references[name])
        ours = "  ".join(f"{t:8.4f} {gflop / t * 1e3:6.1f}" for t in (relaxed[name], simd[name]))
        print(f"{name:28s} {ours}  {torch_ms:8.4f}  {relaxed[name] / torch_ms:5.2f}")


def operations(kernel: Kernel) -> float:
    t = kernel.template
    if isinstance(t, DotTemplate):
        return 2 * (t.batch * t.m * t.n * t.k).at(BATCH)
    assert isinstance(t, ConvTemplate)
    taps = t.in_channels // t.spec.groups * torch.Size(t.kernel).numel()
    return 2 * BATCH * t.out_channels * torch.Size(t.out_spatial).numel() * taps


def main() -> None:
    torch.set_num_threads(1)
    what = sys.argv[1] if len(sys.argv) > 1 else "products"
    with Browser() as browser:
        {"products": products, "convolutions": convolutions}[what](browser)


if __name__ == "__main__":
    main()

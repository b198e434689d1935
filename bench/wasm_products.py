"""Speed of matrix products on WebAssembly in Chromium next to PyTorch, one thread each, in one run.

python -m bench.wasm_products

wasm_convolutions.py measures convolutions, wasm_steps.py whole training steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from bench.chromium import Browser, Workload
from hearth.ir.dim import B
from hearth.ir.kernel import DotTemplate, Kernel
from tests.codegen.wasm.contractions import dot_kernel

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
    assert isinstance(t, DotTemplate)
    return 2 * (t.batch * t.m * t.n * t.k).at(BATCH)


def main() -> None:
    torch.set_num_threads(1)
    with Browser() as browser:
        products(browser)


if __name__ == "__main__":
    main()

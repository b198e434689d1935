"""Large windows on WebAssembly in Chromium by Fourier transforms and otherwise, one thread each.

python -m bench.wasm_large_windows [--batch B] [NAME ...]     those whose names begin so

Ours by every method, with the largest error over the largest result (of two images); how many times
as long as by transforms the best other one takes; then PyTorch's own convolution (oneDNN), and the
same by its transforms (MKL, 512-bit vectors).  `*` marks what
`hearth/codegen/wasm/conv_methods.py` chooses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from bench.chromium import Browser, Workload
from bench.wasm_convolutions import KINDS, Convolution, error
from bench.wasm_products import best_ms
from hearth.codegen.wasm import METHODS, ConvMethod, ConvMethods
from hearth.codegen.wasm.conv_methods import is_possible, method_of


def depthwise(channels: int, size: int, window: int, rank: int = 2) -> Convolution:
    return Convolution(channels, channels, size, window, groups=channels, rank=rank)


CONVOLUTIONS = (
    *(depthwise(64, size, window)
      for size in (14, 28, 56) for window in (5, 7, 9, 11, 13, 21, 31) if window <= 2 * size + 3),
    *(Convolution(64, 64, size, window) for size in (14, 28) for window in (5, 7, 11)),
    Convolution(3, 64, 32, 7), Convolution(32, 32, 28, 31),
    *(depthwise(64, 1000, window, rank=1) for window in (15, 31, 63, 127)),
    *(Convolution(64, 64, 256, window, rank=1) for window in (5, 7, 15, 31)),
    Convolution(12, 64, 1000, 15, rank=1), Convolution(1, 80, 3200, 251, rank=1),
)  # fmt: skip


def by_fourier(own: Convolution, kind: str, x: torch.Tensor, w: torch.Tensor,
               g: torch.Tensor) -> Callable[[], Any]:  # fmt: skip
    """The same by PyTorch's transforms of the padded size, rounded up to a multiple of 8."""
    axes = tuple(range(2, 2 + own.rank))
    sizes = (-(-(own.size + own.window - 1) // 8) * 8,) * own.rank
    first = own.window // 2
    there, back = torch.fft.rfftn, torch.fft.irfftn

    def part(whole: torch.Tensor, begin: int, size: int) -> torch.Tensor:
        for axis in axes:
            whole = whole.roll(-begin, axis).narrow(axis, 0, size)
        return whole

    def run() -> torch.Tensor:
        if kind == "weight_grad":
            product = there(x, sizes, axes)
            other = there(g, sizes, axes).conj()
            if own.groups > 1:
                total = (product * other).sum(0)[:, None]
            else:
                total = torch.einsum("ni...,no...->oi...", product, other)
            return part(back(total, sizes, axes), -first, own.window)
        source = x if kind == "forward" else g
        filters, data = there(w, sizes, axes), there(source, sizes, axes)
        filters = filters.conj() if kind == "forward" else filters
        if own.groups > 1:
            total = data * filters[:, 0]
        else:
            terms = "ni...,oi...->no..." if kind == "forward" else "no...,oi...->ni..."
            total = torch.einsum(terms, data, filters)
        begin = -first if kind == "forward" else first
        return part(back(total, sizes, axes), begin, own.size)

    return run


def measure(browser: Browser, own: Convolution, batch: int) -> None:
    kernels = {kind: own.kernel(kind) for kind in KINDS}
    methods = [m for m in ConvMethod if is_possible(kernels["forward"], m)]
    times = {
        m: browser.times_ms(Workload(kernels, batch, ConvMethods.only(m)), rounds=3)
        for m in methods
    }
    for kind, kernel in kernels.items():
        operands = own.operands(batch, torch.float32)
        plain, transformed = own.in_torch(kind, *operands), by_fourier(own, kind, *operands)
        exact = plain()
        assert torch.allclose(transformed(), exact, atol=1e-3 * float(exact.abs().max()))
        chosen = method_of(kernel, METHODS["fast"], batch)
        columns = "  ".join(
            f"{m.name.lower()} {times[m][kind]:8.3f}{'*' if m == chosen else ' '}"
            f"{error(own, kind, kernel, m):7.1e}"
            for m in methods
        )
        others = min(times[m][kind] for m in methods if m != ConvMethod.FOURIER)
        gain = others / times[ConvMethod.FOURIER][kind]
        print(f"{own!s:30s} {kind:12s} {columns}  gain {gain:5.2f}  torch "
              f"{best_ms(plain, rounds=3):8.3f}  its fft {best_ms(transformed, rounds=3):8.3f}",
              flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[""])
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"B={given.batch}: best ms, and the largest error")
    with Browser() as browser:
        for own in CONVOLUTIONS:
            if str(own).startswith(tuple(given.names)) and is_possible(
                own.kernel("forward"), ConvMethod.FOURIER
            ):
                measure(browser, own, given.batch)


if __name__ == "__main__":
    main()

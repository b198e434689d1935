"""Would large depthwise windows be faster by Fourier transforms?  Forward, one thread each.

python -m bench.wasm_large_windows

`ours` is the direct convolution in Chromium; `fft` PyTorch's own transforms (MKL, 512-bit vectors)
with the filters transformed beforehand: what overlap-save on 128-bit vectors would have to reach.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.chromium import Browser, Workload
from bench.wasm_convolutions import Convolution
from bench.wasm_products import best_ms
from hearth.codegen.wasm import ConvMethod, ConvMethods

BATCH = 8
CHANNELS, SIZES, WINDOWS = 64, (14, 28, 56), (7, 11, 13, 21, 31)


def by_fourier(x: torch.Tensor, w: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Linear convolution by transforms of the padded size, rounded up to a multiple of 8."""
    size, window = x.shape[-1], w.shape[-1]
    padded = -(-(size + window - 1) // 8) * 8
    filters = torch.fft.rfft2(w[:, 0].flip(-1, -2), (padded, padded))
    first = window // 2

    def run() -> torch.Tensor:
        product = torch.fft.rfft2(x, (padded, padded)) * filters
        whole: torch.Tensor = torch.fft.irfft2(product, (padded, padded))
        return whole[..., first : first + size, first : first + size]

    return run


def main() -> None:
    torch.set_num_threads(1)
    print(f"B={BATCH}, {CHANNELS} channels: best ms")
    with Browser() as browser:
        for size in SIZES:
            for window in (w for w in WINDOWS if w <= 2 * size):
                own = Convolution(CHANNELS, CHANNELS, size, window, groups=CHANNELS)
                x, w, _ = own.operands(BATCH, torch.float32)
                run = by_fourier(x, w)
                exact = torch.conv2d(x, w, padding=window // 2, groups=CHANNELS)
                assert torch.allclose(run(), exact, atol=1e-3 * float(exact.abs().max()))
                work = Workload({"y": own.kernel("forward")}, BATCH,
                                ConvMethods.only(ConvMethod.DIRECT))  # fmt: skip
                ours = browser.times_ms(work, rounds=3)["y"]
                fft = best_ms(run, rounds=3)
                print(f"{own!s:34s} ours {ours:8.3f}  fft {fft:8.3f}  ratio {ours / fft:5.2f}",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

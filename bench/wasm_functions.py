"""Cycles that WebAssembly takes for a transcendental function of four floats, in Chromium.

python -m bench.wasm_functions [NAME ...]     with and without fused multiply-add
"""

from __future__ import annotations

import argparse

from bench.chromium import Browser, Workload
from hearth.ir.dim import Dim
from hearth.ir.dtype import FLOAT32
from hearth.ir.index import axis
from hearth.ir.kernel import Kernel, Load, Param, Store
from hearth.ir.scalar import apply

COUNT = 4096  # in the first-level cache
CYCLES_PER_MS = 3.6e6
NAMES = ("exp", "log", "tanh", "erf", "sin", "sigmoid", "gelu")


def map_kernel(name: str) -> Kernel:
    """The function of every element of a vector."""
    size, i = Dim.of(COUNT), axis(0, COUNT)
    params = (Param(FLOAT32, size, True, False), Param(FLOAT32, size, False, True))
    return Kernel(name, params, (size,), (Store((), 1, i, apply(name, Load(FLOAT32, 0, i))),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    names = parser.parse_args().names
    workload = Workload({name: map_kernel(name) for name in names}, 1)
    with Browser() as browser:
        fused, plain = (browser.times_ms(workload, relaxed=choice) for choice in (True, False))
    for name in names:
        cycles = [times[name] * CYCLES_PER_MS * 4 / COUNT for times in (fused, plain)]
        print(f"{name:8s} {cycles[0]:6.1f} cycles   without fused multiply-add {cycles[1]:6.1f}")


if __name__ == "__main__":
    main()

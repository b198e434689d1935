"""Several threads in one shared memory: the same bits as one, for every way of dividing work."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import wasmtime

from hearth.codegen.wasm import Call, emit_module
from hearth.codegen.wasm.module import MAXIMUM_PAGES
from hearth.ir.dim import B, Dim
from hearth.ir.dtype import FLOAT32
from hearth.ir.graph import ConvSpec, Triangular
from hearth.ir.index import axis
from hearth.ir.kernel import Kernel, Load, Param, Store
from hearth.ir.scalar import apply
from hearth.runtime.wasm import SharedMemory
from tests.codegen.wasm.contractions import conv_kernel, dot_kernel

Array = Any
pytestmark = pytest.mark.wasm
PAGES = 2048


def run(kernels: Sequence[Kernel], calls: Sequence[Call], buffers: Sequence[Array], batch: int,
        threads: int, repeats: int = 1) -> list[Array]:  # fmt: skip
    """The buffers after a program of these calls, run by real threads."""
    module = emit_module(kernels, {"main": calls}, relaxed=False, threads=True)
    config = wasmtime.Config()
    config.wasm_threads = config.shared_memory = True
    engine = wasmtime.Engine(config)
    kind = wasmtime.MemoryType(wasmtime.Limits(PAGES, MAXIMUM_PAGES), shared=True)
    memory = SharedMemory(engine, kind)
    address = ctypes.addressof(memory.data_ptr().contents)
    block: Any = (ctypes.c_ubyte * memory.data_len()).from_address(address)
    words = np.frombuffer(block, np.uint32)
    words[1024 // 4] = top = 8192
    top += threads * module.scratch_bytes
    places = []
    for i, buffer in enumerate(buffers):
        top = -(-top // 256) * 256
        words[2048 // 4 + i] = top
        places.append(words[top // 4 : top // 4 + buffer.size])
        places[-1][:] = buffer.view(np.uint32)
        top += 4 * buffer.size
    assert top <= PAGES << 16
    compiled = wasmtime.Module(engine, module.code)
    stores = [wasmtime.Store(engine) for _ in range(threads)]
    mains = [wasmtime.Instance(s, compiled, [memory]).exports(s)["main"] for s in stores]

    def work(thread: int) -> None:
        main: Any = mains[thread]
        for _ in range(repeats):
            main(stores[thread], batch, thread, threads)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return [p.copy().view(b.dtype) for p, b in zip(places, buffers, strict=True)]


def draw(kernel: Kernel, batch: int) -> list[Array]:
    rng = np.random.default_rng(4)
    return [rng.standard_normal(p.size.at(batch)).astype(np.float32) for p in kernel.params]


def check(kernel: Kernel, batch: int) -> None:
    buffers = draw(kernel, batch)
    calls = [Call(0, tuple(range(len(buffers))))]
    alone = run([kernel], calls, buffers, batch, threads=1)
    assert any((a != b).any() for a, b in zip(alone, buffers, strict=True))
    for threads in (2, 3, 5):
        together = run([kernel], calls, buffers, batch, threads)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("lead", "m", "n", "k"), [
    ((), B, 40, 300), ((), 8, B, 900), ((), 3, 1030, 64), ((B,), 9, 11, 100), ((), 130, 70, 50),
])  # fmt: skip
@pytest.mark.parametrize("transpose_b", [False, True])
def test_products(lead: tuple[Any, ...], m: Any, n: Any, k: Any, transpose_b: bool) -> None:
    for batch in (1, 33):
        check(dot_kernel(lead, m, n, k, transpose_b=transpose_b), batch)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("transpose", [False, True])
def test_triangular_products(which: int, transpose: bool) -> None:
    """Threads divide the rows: what a block leaves out depends on where it begins."""
    lower = Triangular(*(which == i for i in range(3)))
    kernel = dot_kernel((), 600, 600, 600, transpose_a=transpose, transpose_b=transpose,
                        triangular=lower)  # fmt: skip
    matrices = [np.tril(x.reshape(600, 600)).reshape(-1) for x in draw(kernel, 1)[:2]]
    buffers = [*matrices, *draw(kernel, 1)[2:]]
    calls = [Call(0, tuple(range(len(buffers))))]
    alone, together = (run([kernel], calls, buffers, 1, threads) for threads in (1, 3))
    needed = np.tril(np.ones((600, 600), bool)).reshape(-1) | (which != 2)
    for one, other in zip(alone, together, strict=True):
        mask = needed if one.size == needed.size else ...
        np.testing.assert_array_equal(one[mask], other[mask])


@pytest.mark.parametrize("kind", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize(
    ("channels", "size", "groups"),
    [
        ((6, 9), (12, 13), 1),
        ((6, 9), (12, 13), 3),
        ((24, 40), (45, 37), 1),
        ((6, 50), (3, 3), 1),
        ((300, 130), (4, 4), 1),
        ((300, 130), (24, 25), 1),
    ],
)
def test_convolutions(kind: str, channels: tuple[int, int], size: tuple[int, int],
                      groups: int) -> None:  # fmt: skip
    spec = ConvSpec((1, 1), (1, 1), (1, 1), groups)
    kernel = conv_kernel(kind, channels, size, (3, 3), spec, with_epilogue=True)
    for batch in (1, 4):
        check(kernel, batch)


def step(name: str, size: Dim, shift: int) -> Kernel:
    """out[i] = (in[(i + shift) mod n] + 1) / 2: every element needs another one's last value."""
    from hearth.ir.index import mod

    i = axis(0, size)
    load = Load(FLOAT32, 0, mod(i + shift, size))
    value = apply("mul", apply("add", load, 1.0), 0.5)
    params = (Param(FLOAT32, size, True, False), Param(FLOAT32, size, False, True))
    return Kernel(name, params, (size,), (Store((), 1, i, value),))


@pytest.mark.parametrize("size", [64 * B, 4096 * B])
def test_a_barrier_separates_kernels_and_programs(size: Dim) -> None:
    batch, repeats = 7, 40
    count = size.at(batch)
    kernels = [step("there", size, count // 2 + 5), step("back", size, 3)]
    calls = [Call(0, (0, 1)), Call(1, (1, 0))]
    start = np.arange(count, dtype=np.float32)
    expected = start.copy()
    for _ in range(repeats):
        for shift in (count // 2 + 5, 3):
            expected = (np.roll(expected, -shift) + np.float32(1)) * np.float32(0.5)
    for threads in (1, 2, 4):
        got = run(kernels, calls, [start, np.zeros_like(start)], batch, threads, repeats)
        np.testing.assert_array_equal(got[0], expected)

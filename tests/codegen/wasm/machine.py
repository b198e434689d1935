"""Runs kernels in wasmtime, next to the NumPy meaning of kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import wasmtime

from hearth.codegen.wasm import METHODS, Call, ConvMethods, emit_module
from hearth.codegen.wasm.module import MAXIMUM_PAGES
from hearth.ir.dtype import STORED_AS
from hearth.ir.kernel import Kernel
from hearth.runtime.wasm import SharedMemory

Array = Any
PAGE_BYTES = 65536
GUARD_WORDS = 16


class Machine:
    """One kernel per call, with every buffer between words that must stay as they are."""

    def __init__(self, kernels: Sequence[Kernel], *, relaxed: bool = True,
                 methods: ConvMethods = METHODS["fast"]) -> None:  # fmt: skip
        self.kernels, self.relaxed, self.methods = list(kernels), relaxed, methods
        calls = self.calls = {}
        first = 0
        for i, kernel in enumerate(kernels):
            count = len(kernel.params)
            calls[f"run{i}"] = [Call(i, tuple(range(first, first + count)))]
            first += count
        self.module = emit_module(kernels, calls, relaxed=relaxed, threads=False, methods=methods)
        self.table_words = first
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        config.wasm_threads = config.shared_memory = True
        self.engine = wasmtime.Engine(config)
        self.compiled = wasmtime.Module(self.engine, self.module.code)

    @cached_property
    def threaded(self) -> wasmtime.Module:
        """The same kernels for several threads."""
        module = emit_module(self.kernels, self.calls, relaxed=self.relaxed, threads=True,
                             methods=self.methods)  # fmt: skip
        return wasmtime.Module(self.engine, module.code)

    def run(self, number: int, buffers: Sequence[Array], batch: int,
            threads: int = 1) -> list[Array]:  # fmt: skip
        """The buffers after the kernel; each is aligned to 16 bytes and ends at a guard."""
        first = sum(len(k.params) for k in self.kernels[:number])
        scratch = (2048 + 4 * self.table_words + 255) // 256 * 256
        addresses, top = [], scratch + threads * self.module.scratch_bytes + 4 * GUARD_WORDS
        for buffer in buffers:
            top = (top + 15) // 16 * 16
            addresses.append(top)
            top += 4 * (buffer.size + GUARD_WORDS)
        pages = -(-(top + 4 * GUARD_WORDS) // PAGE_BYTES)
        stores = [wasmtime.Store(self.engine) for _ in range(threads)]
        limits = wasmtime.Limits(pages, MAXIMUM_PAGES)
        memory: Any
        if threads > 1:
            memory = SharedMemory(self.engine, wasmtime.MemoryType(limits, shared=True))
            size, pointer = memory.data_len(), memory.data_ptr()
        else:
            memory = wasmtime.Memory(stores[0], wasmtime.MemoryType(limits))
            size, pointer = memory.data_len(stores[0]), memory.data_ptr(stores[0])
        address = ctypes.addressof(pointer.contents)
        words = np.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype=np.uint32)
        words[scratch // 4 :] = 0x7FC0BEEF  # NaN: a read outside shows
        words[1024 // 4] = scratch
        for i, (at, buffer) in enumerate(zip(addresses, buffers, strict=True)):
            words[2048 // 4 + first + i] = at
            words[at // 4 : at // 4 + buffer.size] = buffer.view(np.uint32)
        compiled = self.threaded if threads > 1 else self.compiled
        runs: list[Any] = [
            wasmtime.Instance(s, compiled, [memory]).exports(s)[f"run{number}"] for s in stores
        ]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda i: runs[i](stores[i], batch, i, threads), range(threads)))
        for at, buffer in zip(addresses, buffers, strict=True):
            guard = words[at // 4 + buffer.size : at // 4 + buffer.size + GUARD_WORDS]
            assert (guard == 0x7FC0BEEF).all(), "a kernel wrote outside of its buffer"
        return [
            words[at // 4 : at // 4 + b.size].copy().view(b.dtype)
            for at, b in zip(addresses, buffers, strict=True)
        ]


def stored(values: Array, dtype: str) -> Array:
    """A flat array as it lies in device memory."""
    return np.ascontiguousarray(values, dtype=STORED_AS[dtype]).reshape(-1)

"""Runs kernels in wasmtime, next to the NumPy meaning of kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import wasmtime

from hearth.codegen.wasm import METHODS, Call, ConvMethods, emit_module
from hearth.ir.dtype import STORED_AS
from hearth.ir.kernel import Kernel

Array = Any
PAGE_BYTES = 65536
GUARD_WORDS = 16


class Machine:
    """One kernel per call, with every buffer between words that must stay as they are."""

    def __init__(self, kernels: Sequence[Kernel], *, relaxed: bool = True,
                 methods: ConvMethods = METHODS["fast"]) -> None:  # fmt: skip
        self.kernels = list(kernels)
        calls = {}
        first = 0
        for i, kernel in enumerate(kernels):
            count = len(kernel.params)
            calls[f"run{i}"] = [Call(i, tuple(range(first, first + count)))]
            first += count
        self.module = emit_module(kernels, calls, relaxed=relaxed, threads=False, methods=methods)
        self.table_words = first
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        self.engine = wasmtime.Engine(config)
        self.compiled = wasmtime.Module(self.engine, self.module.code)

    def run(self, number: int, buffers: Sequence[Array], batch: int,
            threads: int = 1) -> list[Array]:  # fmt: skip
        """The buffers after the kernel; each is aligned to 16 bytes and ends at a guard.

        Threads do their parts one after the other.
        """
        first = sum(len(k.params) for k in self.kernels[:number])
        scratch = (2048 + 4 * self.table_words + 255) // 256 * 256
        addresses, top = [], scratch + threads * self.module.scratch_bytes + 4 * GUARD_WORDS
        for buffer in buffers:
            top = (top + 15) // 16 * 16
            addresses.append(top)
            top += 4 * (buffer.size + GUARD_WORDS)
        pages = -(-(top + 4 * GUARD_WORDS) // PAGE_BYTES)
        store = wasmtime.Store(self.engine)
        memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(pages, 65536)))
        size = memory.data_len(store)
        address = ctypes.addressof(memory.data_ptr(store).contents)
        words = np.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype=np.uint32)
        words[scratch // 4 :] = 0x7FC0BEEF  # NaN: a read outside shows
        words[1024 // 4] = scratch
        for i, (at, buffer) in enumerate(zip(addresses, buffers, strict=True)):
            words[2048 // 4 + first + i] = at
            words[at // 4 : at // 4 + buffer.size] = buffer.view(np.uint32)
        instance = wasmtime.Instance(store, self.compiled, [memory])
        run: Any = instance.exports(store)[f"run{number}"]
        for thread in range(threads):
            run(store, batch, thread, threads)
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

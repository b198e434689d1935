"""The WebAssembly of a bundle on wasmtime: the same bytes and memory layout as in the browser.

With several threads the module's shared memory is entered by one Python thread per share; wasmtime
releases the interpreter lock while a program runs.  The shares meet at the module's own barrier, so
after a trap in one of them a stand-in (wasm_barrier.py) arrives there until the others have ended.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import wasmtime
import wasmtime._ffi as ffi
from numpy.typing import NDArray

from hearth.bundle.manifest import WasmVariant
from hearth.bundle.memory import (
    UNLIMITED,
    WASM_PAGE_BYTES,
    WASM_TABLE,
    wasm_arena_address,
    wasm_scratch_address,
)
from hearth.bundle.read import Bundle
from hearth.errors import BackendError, OutOfMemoryError
from hearth.runtime.plan import Plan
from hearth.runtime.wasm_barrier import ARRIVALS, stand_in

MAXIMUM_PAGES = 65536
SCRATCH_WORD = 1024  # its address: spec/manifest.md, "WebAssembly"


@dataclass(frozen=True)
class _Instance:
    """One thread's entry to the module."""

    store: wasmtime.Store
    exports: Any


class WasmDevice:
    """Implements `Device` with the first variant of the bundle whose features are wanted.

    `threads` above 1 takes a variant with shared memory; `relaxed` False leaves relaxed SIMD out.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, relaxed: bool = True) -> None:
        wasm = bundle.manifest.wasm
        if wasm is None:
            raise BackendError(
                "this bundle has no WebAssembly", remedy='compile it with backends=("wasm",)'
            )
        wanted = {"simd128": True, "relaxed-simd": relaxed, "threads": threads > 1}
        variant = _choose(wasm.variants, {name for name, is_on in wanted.items() if is_on})
        self._threads, self._features = threads, variant.features
        self._is_shared = "threads" in variant.features
        self._engine = wasmtime.Engine(_config(self._is_shared))
        self._module = wasmtime.Module(self._engine, bundle.file(variant.file))
        self._scratch = wasm_scratch_address(bundle.manifest)
        self._arena = wasm_arena_address(bundle.manifest, threads)
        self._plan: Plan | None = None
        self._memory: wasmtime.Memory | wasmtime.SharedMemory | None = None
        self._instances: list[_Instance] = []
        self._bytes = np.zeros(0, np.uint8)
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self._working = 0  # threads inside of the program that is running
        self._lock = threading.Lock()

    @property
    def stores_halves(self) -> bool:
        return False

    @property
    def page_bytes(self) -> int:
        return UNLIMITED

    @property
    def name(self) -> str:
        kind = "relaxed SIMD" if "relaxed-simd" in self._features else "SIMD"
        threads = f", {self._threads} threads" if self._threads > 1 else ""
        return f"wasmtime {version('wasmtime')}, {kind}{threads}"

    def prepare(self, plan: Plan) -> None:
        state = b"" if self._plan is None else self.read_state(0, plan.state_bytes)
        pages = -(-(self._arena + plan.arena_bytes) // WASM_PAGE_BYTES)
        if pages > MAXIMUM_PAGES:
            raise OutOfMemoryError(
                f"a batch of {plan.batch} needs {pages * WASM_PAGE_BYTES >> 20} MiB",
                why="WebAssembly memory ends at 4096 MiB",
                remedy=f"use a batch of {max(plan.batch // 2, 1)}",
            )
        self._allocate(pages)
        words = self._bytes.view(np.uint32)
        words[SCRATCH_WORD // 4] = self._scratch
        table = WASM_TABLE // 4
        words[table : table + len(plan.offsets)] = [self._arena + o for o in plan.offsets]
        self._plan = plan
        self.write_state(0, state)

    def write(self, buffer: int, elements: NDArray[Any]) -> None:
        start = self._address(buffer)
        data = np.ascontiguousarray(elements).reshape(-1).view(np.uint8)
        self._bytes[start : start + data.size] = data

    def read(self, buffer: int, nbytes: int) -> bytes:
        start = self._address(buffer)
        return self._bytes[start : start + nbytes].tobytes()

    def write_state(self, offset: int, data: bytes) -> None:
        start = self._arena + offset
        self._bytes[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def read_state(self, offset: int, nbytes: int) -> bytes:
        start = self._arena + offset
        return self._bytes[start : start + nbytes].tobytes()

    def run(self, program: str, batch: int) -> None:
        self._working = self._threads
        others: list[Future[None]] = []
        if self._pool is not None:
            others = [
                self._pool.submit(self._enter, program, batch, thread)
                for thread in range(1, self._threads)
            ]
        try:
            self._enter(program, batch, 0)
        finally:
            wait(others)
            self._bytes.view(np.uint32)[ARRIVALS // 4] = 0  # a stand-in may have been left alone
        for other in others:
            other.result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._bytes = np.zeros(0, np.uint8)
        self._instances, self._memory = [], None

    def _enter(self, program: str, batch: int, thread: int) -> None:
        instance = self._instances[thread]
        try:
            try:
                instance.exports[program](instance.store, batch, thread, self._threads)
            finally:
                with self._lock:
                    self._working -= 1
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            if self._is_shared:
                stand_in(self._engine, self._memory, self._threads, lambda: self._working > 0)
            raise BackendError(f"program {program!r} stopped", why=str(error)) from error

    def _address(self, buffer: int) -> int:
        assert self._plan is not None, "prepare() comes first"
        return self._arena + self._plan.offsets[buffer]

    def _allocate(self, pages: int) -> None:
        """New memory and instances: the views of the old memory end here."""
        limits = wasmtime.Limits(pages, MAXIMUM_PAGES)
        try:
            if self._is_shared:
                self._allocate_shared(limits)
            else:
                store = wasmtime.Store(self._engine)
                memory = wasmtime.Memory(store, wasmtime.MemoryType(limits))
                self._instances = [self._instantiate(store, memory)]
                self._bytes = _view(memory.data_ptr(store), memory.data_len(store))
                self._memory = memory
        except wasmtime.WasmtimeError as error:
            raise OutOfMemoryError(
                f"wasmtime gives no memory of {pages * WASM_PAGE_BYTES >> 20} MiB", why=str(error)
            ) from error

    def _allocate_shared(self, limits: wasmtime.Limits) -> None:
        memory = SharedMemory(self._engine, wasmtime.MemoryType(limits, shared=True))
        self._instances = [
            self._instantiate(wasmtime.Store(self._engine), memory) for _ in range(self._threads)
        ]
        self._bytes = _view(memory.data_ptr(), memory.data_len())
        self._memory = memory

    def _instantiate(self, store: wasmtime.Store, memory: Any) -> _Instance:
        instance = wasmtime.Instance(store, self._module, [memory])
        return _Instance(store, instance.exports(store))


class SharedMemory(wasmtime.SharedMemory):
    """wasmtime-py 50.0.1 passes a pointer to the pointer: "incompatible types" on import."""

    def _as_extern(self) -> Any:
        union = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)


def _choose(variants: Sequence[WasmVariant], features: set[str]) -> WasmVariant:
    """The first variant that needs no more, and has threads where they are wanted."""
    for variant in variants:
        own = set(variant.features)
        if own <= features and ("threads" in own) == ("threads" in features):
            return variant
    raise BackendError(f"no WebAssembly variant of this bundle has {', '.join(sorted(features))}")


def _config(is_shared: bool) -> wasmtime.Config:
    config = wasmtime.Config()
    config.wasm_relaxed_simd = True
    if is_shared:
        config.wasm_threads = True
        config.shared_memory = True
    return config


def _view(pointer: Any, nbytes: int) -> NDArray[np.uint8]:
    """The memory as an array; it must not outlive the memory."""
    address = ctypes.addressof(pointer.contents)
    block: Any = (ctypes.c_ubyte * nbytes).from_address(address)
    view: NDArray[np.uint8] = np.frombuffer(block, np.uint8)
    return view

"""What a device must offer to run the programs of a bundle: memory and one call per program.

A device knows buffers (by their index in the manifest) and programs (by name); it knows nothing of
models, batches or weights: that is `bundle_runner.py`.  `WasmDevice` runs on wasmtime,
`WebGpuDevice` on wgpu.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from hearth.runtime.plan import Plan


class Device(Protocol):
    """One bundle's memory and kernels on one device.  Not thread-safe."""

    @property
    def name(self) -> str:
        """For people: "wasmtime 50.0.1, relaxed SIMD, 2 threads"."""

    @property
    def stores_halves(self) -> bool:
        """Whether plans are made for float16 numbers of two bytes."""

    @property
    def page_bytes(self) -> int:
        """What it gives in one piece: a plan that needs more has several pages."""

    def prepare(self, plan: Plan) -> None:
        """Lays out memory for a plan: the first one starts as zeros, a later one keeps the state.

        Raises `OutOfMemoryError` where the plan does not fit.
        """

    def write(self, buffer: int, elements: NDArray[Any]) -> None:
        """Fills a buffer from its start with contiguous four-byte elements."""

    def read(self, buffer: int, nbytes: int) -> bytes:
        """The first bytes of a buffer, after everything that was run before has finished."""

    def write_state(self, offset: int, data: bytes) -> None:
        """Writes bytes into the state region; `offset` is a multiple of 4."""

    def read_state(self, offset: int, nbytes: int) -> bytes:
        """Reads bytes of the state region."""

    def run(self, program: str, batch: int) -> None:
        """Runs a program for `batch` samples, at most the plan's batch; may return early."""

    def close(self) -> None:
        """Gives memory and threads back; the device is of no use afterwards."""

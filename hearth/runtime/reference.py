"""A device that executes kernels with NumPy: slow, and the definition of what they mean.

It needs the kernels themselves (not their generated code), which are kept beside a bundle for its
developer (`DIST.build.pickle`) and never shipped.  It shares the memory plan with the real devices,
so it also checks slots, liveness and in-place updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.manifest import Manifest
from hearth.bundle.memory import UNLIMITED
from hearth.ir.dtype import ELEMENT_BYTES, STORED_AS
from hearth.ir.kernel import Kernel
from hearth.runtime.plan import Plan
from hearth.schedule.reference import run_kernel


class ReferenceDevice:
    """Implements `Device` over one NumPy array."""

    def __init__(self, manifest: Manifest, kernels: Sequence[Kernel]) -> None:
        self._manifest, self._kernels = manifest, list(kernels)
        self._arena = np.zeros(0, np.uint8)
        self._plan: Plan | None = None

    @property
    def stores_halves(self) -> bool:
        return False

    @property
    def page_bytes(self) -> int:
        return UNLIMITED

    @property
    def name(self) -> str:
        return f"NumPy {np.__version__} reference"

    def prepare(self, plan: Plan) -> None:
        arena = np.zeros(plan.arena_bytes, np.uint8)
        if self._plan is not None:
            arena[: plan.state_bytes] = self._arena[: plan.state_bytes]
        self._arena, self._plan = arena, plan

    def write(self, buffer: int, elements: NDArray[Any]) -> None:
        self._bytes(buffer)[: elements.nbytes] = (
            np.ascontiguousarray(elements).view(np.uint8).ravel()
        )

    def read(self, buffer: int, nbytes: int) -> bytes:
        return self._bytes(buffer)[:nbytes].tobytes()

    def write_state(self, offset: int, data: bytes) -> None:
        self._arena[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def read_state(self, offset: int, nbytes: int) -> bytes:
        return self._arena[offset : offset + nbytes].tobytes()

    def run(self, program: str, batch: int) -> None:
        for step in self._manifest.programs[program].steps:
            kernel = self._kernels[step.kernel]
            buffers = []
            for buffer, param in zip(step.buffers, kernel.params, strict=True):
                size = param.size.at(batch) * ELEMENT_BYTES
                buffers.append(self._bytes(buffer)[:size].view(STORED_AS[param.dtype]))
            run_kernel(kernel, buffers, batch)

    def close(self) -> None:
        self._arena = np.zeros(0, np.uint8)

    def _bytes(self, buffer: int) -> NDArray[np.uint8]:
        assert self._plan is not None, "prepare() comes first"
        start = self._plan.offsets[buffer]
        return self._arena[start : start + self._plan.sizes[buffer]]

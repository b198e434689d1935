"""The memory of a schedule, in which its kernels run with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from hearth.ir.dim import product
from hearth.ir.dtype import BOOL, STORED_AS
from hearth.schedule.schedule import Buffer, Schedule, StatePlace


class Memory:
    """One state region and one arena for the slots, as a runtime would lay them out.

    Slots begin with garbage: nothing may rely on what they held before.
    """

    def __init__(self, plan: Schedule, state_bytes: int, batch: int) -> None:
        self.batch = batch
        self.state = np.zeros(state_bytes, np.uint8)
        self.arena = np.full(plan.slot_bytes(batch), 0xAB, np.uint8)
        self.starts = plan.allocation.starts_at(batch)

    def view(self, buffer: Buffer) -> Any:
        size, place = 4 * product(buffer.shape).at(self.batch), buffer.place
        if isinstance(place, StatePlace):
            region = self.state[place.offset : place.offset + size]
        else:
            start = self.starts[place.slot]
            region = self.arena[start : start + size]
        return region.view(STORED_AS[buffer.dtype])

    def read(self, buffer: Buffer) -> Any:
        shape = tuple(e.at(self.batch) for e in buffer.shape)
        elements = self.view(buffer).reshape(shape)
        return elements.astype(np.bool_) if buffer.dtype == BOOL else elements.copy()

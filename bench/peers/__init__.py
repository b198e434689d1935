"""The frameworks that are compared: one file each, all with the same face.

A peer says how to prepare a case (once, before anything is timed) and how to open a session on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.browser import Rig
from bench.prepare import Case


class Session(Protocol):
    """One model in training; every step ends with its loss read back as a number."""

    def losses(self) -> list[float]:
        """The losses of the first steps, from the first one on; called once."""

    def times_ms(self, seconds: float) -> list[float]:
        """Takes steps until `seconds` have passed, at least one; the time of each."""

    def predictions_ms(self, seconds: float) -> list[float]:
        """The time of each prediction for one sample; none where the peer only trains."""

    def live(self, seconds: float) -> dict[str, Any]:
        """`times` of predictions while training goes on, and the `steps` it took."""

    def facts(self) -> dict[str, Any]:
        """first_step_ms, code_bytes, memory_bytes, device, where they can be measured."""

    def close(self) -> None: ...


def nothing(case: Case) -> None:
    """Nothing has to be prepared."""


@dataclass(frozen=True)
class Peer:
    """One framework on one backend."""

    name: str  # with "webgpu" in it where that computes
    open: Callable[[Case, Rig], Session] = field(repr=False)
    prepare: Callable[[Case], None] = field(default=nothing, repr=False)

    @property
    def device(self) -> str:
        """What is timed in turns with what: `cpu` or `gpu`."""
        return "gpu" if "webgpu" in self.name else "cpu"

"""A step that fits into a number of bytes: what it needs is counted, and the excess recomputed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hearth.bundle.manifest import Manifest
from hearth.bundle.memory import largest_batch, needed_bytes, plan_memory
from hearth.errors import InvalidInputError, OutOfMemoryError
from hearth.schedule.schedule import Limit

ROUNDS = 3  # scratch memory of other kernels may make a second one necessary


@dataclass(frozen=True, slots=True)
class Budget:
    """What a step may take on every backend, with one thread, for batches up to a size."""

    bytes: int
    batch: int

    def __post_init__(self) -> None:
        for name, value in (("memory_bytes", self.bytes), ("memory_batch", self.batch)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"{name} is {value!r}", remedy="pass a positive integer")


class Built(Protocol):
    @property
    def manifest(self) -> Manifest: ...


AnyBuilt = TypeVar("AnyBuilt", bound=Built)


def fit(build: Callable[[Limit | None], AnyBuilt], budget: Budget | None) -> AnyBuilt:
    """What `build` makes without a limit, or with the one that the budget asks for.

    Raises `OutOfMemoryError` with the least that recomputation reaches.
    """
    built = build(None)
    if budget is None:
        return built
    for _ in range(ROUNDS):
        excess = _needed(built.manifest, budget.batch) - budget.bytes
        if excess <= 0:
            return built
        slots = max(plan_memory(built.manifest, budget.batch).program_bytes.values())
        built = build(Limit(budget.batch, max(slots - excess, 0)))
    if _needed(built.manifest, budget.batch) <= budget.bytes:
        return built
    raise _does_not_fit(built.manifest, budget)


def _needed(manifest: Manifest, batch: int) -> int:
    return max(needed_bytes(manifest, batch).values())


def _does_not_fit(manifest: Manifest, budget: Budget) -> OutOfMemoryError:
    least = _needed(manifest, budget.batch)
    smaller = largest_batch(lambda batch: _needed(manifest, batch) <= budget.bytes)
    remedy = f"allow memory_bytes={least}"
    if smaller:
        remedy += f", or ask for memory_batch={smaller}, which fits"
    return OutOfMemoryError(
        f"a batch of {budget.batch} needs {least} bytes, and memory_bytes is {budget.bytes}",
        why=f"{manifest.state_bytes} are parameters, gradients and optimizer state, and everything "
        "is recomputed that makes the rest smaller",
        remedy=remedy,
    )

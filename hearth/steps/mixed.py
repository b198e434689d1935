"""Mixed precision: `torch.autocast` around forward and loss, and `torch.amp.GradScaler` after it.

Gradients of halves vanish below 2**-24 and overflow above 65504.  So the loss is scaled up before
it is differentiated, and the gradients of the parameters, which are float32, down again.  Where one
is not finite the update is left out and the scale gets smaller; after many good steps it grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from hearth.capture.graph import Argument, AtenGraph, AtenNode, Value
from hearth.capture.traced import TracedInput, TracedOutput
from hearth.errors import InvalidInputError

PRECISIONS: Final = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# State: the scale, good steps since it changed, and updates that were not left out.
LOSS_SCALE, GROWTH_TRACKER, UPDATES = "hearth/loss_scale", "hearth/growth_tracker", "hearth/updates"
SCALER_INPUTS = (
    TracedInput(LOSS_SCALE, "scaler", (), torch.float32),
    TracedInput(GROWTH_TRACKER, "scaler", (), torch.int32),
    TracedInput(UPDATES, "scaler", (), torch.int32),
)


@dataclass(frozen=True, slots=True)
class LossScaling:
    """What a `torch.amp.GradScaler` multiplies by, and where it stands."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    growth_tracker: int

    @staticmethod
    def of(scaler: torch.amp.GradScaler) -> LossScaling | None:
        """None for a scaler that is not enabled."""
        state = scaler.state_dict()
        if not state:
            return None
        return LossScaling(
            float(state["scale"]), float(state["growth_factor"]), float(state["backoff_factor"]),
            int(state["growth_interval"]), int(state["_growth_tracker"]),
        )  # fmt: skip

    def to_torch_state_dict(self) -> dict[str, Any]:
        """For `GradScaler.load_state_dict`."""
        return {
            "scale": self.scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": self.growth_tracker,
        }


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise InvalidInputError(
            f"precision is {precision!r}", remedy=f"pass one of {', '.join(PRECISIONS)}"
        )


def loss_scaling(precision: str, scaler: torch.amp.GradScaler | None) -> LossScaling | None:
    """The given scaler's, or for float16 that of a new one; a bfloat16 has the range of a float."""
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise InvalidInputError(
            f"scaler is a {type(scaler).__name__}", remedy='pass a torch.amp.GradScaler("cpu")'
        )
    if scaler is None:
        scaler = torch.amp.GradScaler("cpu", enabled=precision == "float16")
    return LossScaling.of(scaler)


def autocast(precision: str) -> AbstractContextManager[Any]:
    """The region in which a step of this precision computes its outputs and its loss."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast("cpu", PRECISIONS[precision])


def all_finite(gradients: Iterable[torch.Tensor]) -> torch.Tensor:
    """Whether no element is infinite or NaN; a maximum keeps both, whatever the device assumes."""
    found = None
    for gradient in gradients:
        largest = gradient.abs().amax()
        finite = torch.logical_not(torch.isnan(largest) | (largest == torch.inf))
        found = finite if found is None else found & finite
    assert found is not None
    return found


def updated_scaler(
    t: Mapping[str, torch.Tensor], scaling: LossScaling, finite: torch.Tensor
) -> list[TracedOutput]:
    """`GradScaler.update`: the next scale and counters (`_amp_update_scale_` of ATen)."""
    scale, good = t[LOSS_SCALE], t[GROWTH_TRACKER] + 1
    grown = scale * scaling.growth_factor
    is_due = good == scaling.growth_interval
    next_scale = torch.where(is_due & (grown < torch.inf), grown, scale)
    zero = torch.zeros_like(good)
    return [
        TracedOutput(
            LOSS_SCALE, "scaler", torch.where(finite, next_scale, scale * scaling.backoff_factor)
        ),
        TracedOutput(GROWTH_TRACKER, "scaler", torch.where(finite & ~is_due, good, zero)),
        TracedOutput(UPDATES, "scaler", t[UPDATES] + finite.to(torch.int32)),
    ]


def reading_chosen(graph: AtenGraph) -> AtenGraph:
    """The update, with new states read after the choice between new and old, not before.

    Whatever reads a new state is itself only chosen where the gradients are finite, and there the
    two are the same.  So every value is stored once, as without loss scaling.
    """
    results = {o.value for o in graph.outputs if o.role == "optimizer"}
    chosen: dict[Value, AtenNode] = {}
    for node in graph.nodes:
        new = node.args[1] if node.target == "aten.where.self" else None
        if isinstance(new, Value) and node.results[0] in results:
            chosen[new] = node

    def renamed(argument: Argument) -> Argument:
        if isinstance(argument, tuple):
            return tuple(renamed(a) for a in argument)
        return chosen[argument].results[0] if argument in chosen else argument

    nodes: list[AtenNode] = []
    for node in graph.nodes:
        if node not in chosen.values():
            nodes.append(replace(node, args=tuple(renamed(a) for a in node.args)))
            nodes += [chosen[r] for r in node.results if r in chosen]
    return replace(graph, nodes=tuple(nodes))

"""The program `inspect`: what a training step looks like from inside, on one batch.

It is the step's own forward pass, gradient and update, of which nothing is stored; spec/manifest.md
names its outputs.  What is looked at is captured here, and so are, once for any length, the
numbers that describe a vector; the driver puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad

from hearth.capture.graph import AtenGraph
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.functions.statistics import (
    Description,
    describe,
    describe_parts,
    saturated,
    silent,
    update_ratios,
)
from hearth.steps.augment import augment
from hearth.steps.mixed import autocast
from hearth.steps.optimizer import Updated, UpdatedGroup
from hearth.steps.programs import (
    Examples,
    Named,
    capture_in,
    gradients_of,
    numbered,
    penalty_of,
    scalar_loss,
    stored,
)
from hearth.steps.swap import swapped
from hearth.steps.taps import Tap, Taps, recorded
from hearth.steps.train_step import TrainStep

SEEN = "seen"  # the role of a tensor that is to be described
_ANY_LENGTH = 3
_CHANGE = ("parameter", "gradient", "updated")


@dataclass(frozen=True)
class InspectionProgram:
    """What the program is made of.

    `backward` has tensors of role `SEEN` named KIND/NAME, the outputs silent/NAME and
    saturated/NAME, and the gradients, with the role "gradient".  `description` describes a vector
    of B elements, `updates[k]` the parameters of group k, from parameter/k, gradient/k and
    updated/k; it is None for a group without gradients.
    """

    backward: AtenGraph
    description: AtenGraph
    updates: Sequence[AtenGraph | None]
    values: bool


def capture_inspection(
    step: TrainStep,
    groups: tuple[UpdatedGroup, ...],
    inputs: Examples,
    targets: Examples,
    taps: Taps,
) -> InspectionProgram:
    """Raises what `capture_gradients` raises, and `InvalidInputError` for an unknown module."""
    moved = {name for group in groups for name in group.parameters}
    still = [
        *(("parameter", name) for name in step.parameters if name not in moved),
        *(("buffer", name) for name, b in step.buffers.items() if b.is_floating_point()),
    ]

    def body(model: nn.Module, t: Named, tracing: Tracing) -> list[TracedOutput]:
        trained = {name: t[name].detach().requires_grad_() for name in step.trainable}
        with torch.enable_grad(), swapped(step.model, {**stored(step, t), **trained}):
            changed = step.augmentation if taps.training else None
            given, wanted = augment(changed, numbered(t, "input"), numbered(t, "target"))
            with autocast(step.precision):
                with recorded(model, taps.modules) as recording:
                    outputs = model(*given)
                loss = scalar_loss(step, outputs, wanted)
            penalty = penalty_of(step, trained)
            loss = loss if penalty is None else loss + penalty
            flowing = [tap for tap in recording.taps if tap.edge is not None]
            edges = [tap.edge for tap in flowing if tap.edge is not None]
            found = gradients_of(step, loss, [*trained.values(), *edges], t, tracing)
        arrived = {tap.name: g for tap, g in zip(flowing, found[len(trained) :], strict=True)}
        gradients = zip(trained, found, strict=False)
        return [
            TracedOutput("loss", "loss", loss.detach()),
            *(o for tap in recording.taps for o in _layer(tap, arrived.get(tap.name))),
            *(TracedOutput(f"{kind}/{name}", SEEN, t[name]) for kind, name in still),
            *(TracedOutput(name, "gradient", g) for name, g in gradients if g is not None),
        ]

    backward = capture_in(step, body, inputs, targets, training=taps.training)
    updates = [_capture_update(step, k, group, taps.values) for k, group in enumerate(groups)]
    return InspectionProgram(backward, _capture_description(), updates, taps.values)


def _layer(tap: Tap, gradient: torch.Tensor | None) -> list[TracedOutput]:
    value = tap.value.float()  # under autocast it may be a half
    outputs = [TracedOutput(f"activation/{tap.name}", SEEN, value)]
    if tap.response.silent:
        shares = silent(value, tap.unit_axis)
        outputs.append(TracedOutput(f"silent/{tap.name}", "output", shares))
    if tap.response.ends is not None:
        shares = saturated(value, tap.unit_axis, *tap.response.ends)
        outputs.append(TracedOutput(f"saturated/{tap.name}", "output", shares))
    if gradient is not None:
        outputs.append(TracedOutput(f"activation_gradient/{tap.name}", SEEN, gradient.float()))
    return outputs


def _capture_description() -> AtenGraph:
    def body(t: Named, tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        found = describe(t["x"])
        return [
            TracedOutput("statistics", "output", found.statistics),
            TracedOutput("histogram", "output", found.histogram),
        ]

    vector = TracedInput("x", "input", (_ANY_LENGTH,), torch.float32, batched=True)
    return capture(body, [vector], place="inspection")


def _changes(t: Named, tensor: Updated) -> dict[str, torch.Tensor]:
    """What is told of a vector of a flat group, or of a parameter, as it lies."""
    old, gradient, new = (t[f"{key}/{tensor.name}"] for key in _CHANGE)
    return {"parameters": old, "gradients": gradient, "updates": new - old}


def _described(step: TrainStep, tensor: Updated, x: torch.Tensor) -> Description:
    """A row for each parameter in it."""
    sizes = [step.parameters[name].numel() for name in tensor.members]
    missing = tensor.layout.length - x.numel()  # to whole rows, which a vector has
    flat = pad(x.flatten(), (0, missing)) if missing else x.flatten()
    return describe_parts(flat, tensor.layout.offsets, sizes)


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _capture_update(step: TrainStep, k: int, group: UpdatedGroup, values: bool) -> AtenGraph | None:
    """Statistics, histograms and ratios, a row for each parameter of the group."""
    if not group.parameters:
        return None

    def body(t: Named, tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        changes = [(tensor, _changes(t, tensor)) for tensor in group.tensors]
        found = {}
        for kind in changes[0][1]:
            rows = [_described(step, tensor, change[kind]) for tensor, change in changes]
            found[kind] = Description(*(_joined(column) for column in zip(*rows, strict=True)))
        ratios = update_ratios(found["updates"].statistics, found["parameters"].statistics)
        return [
            *(
                TracedOutput(f"{what}/{kind}/{k}", "output", part)
                for kind, description in found.items()
                for what, part in description._asdict().items()
            ),
            TracedOutput(f"ratios/{k}", "output", ratios),
            *(
                TracedOutput(f"values/updates/{tensor.name}", "output", change["updates"])
                for tensor, change in (changes if values else ())
            ),
        ]

    inputs = [
        TracedInput(f"{key}/{tensor.name}", key, tensor.shape, torch.float32)
        for tensor in group.tensors
        for key in _CHANGE
    ]
    return capture(body, inputs, place="inspection")

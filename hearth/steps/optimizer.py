"""The real `torch.optim` update, traced with as few tensors as it admits.

An elementwise update is traced once per parameter group, on one flat vector that holds all its
parameters (several, where a GPU could not bind one: `flat.py`); any other (Muon, Adafactor) once
per parameter, in the parameter's own shape.  Which of the two an optimizer is, is probed, not
assumed (`optimizer_update.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from hearth.capture.graph import AtenGraph
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.errors import CaptureError
from hearth.steps.examples import STEP
from hearth.steps.flat import MOST_ELEMENTS, FlatLayout, flat_layout, vectors_of
from hearth.steps.mixed import (
    SCALER_INPUTS,
    UPDATES,
    all_finite,
    reading_chosen,
    updated_scaler,
)
from hearth.steps.optimizer_update import (
    TENSOR_SCALARS,
    as_if_compiling,
    cannot_compile,
    is_elementwise,
    rests_at_rate_zero,
    run_group,
    starts_from_zeros,
    state_shapes,
)
from hearth.steps.train_step import TrainStep, untouched

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Updated:
    """A tensor that the update takes as a whole: a flat vector of a group, or one parameter.

    `members` are the parameters in it, in this `layout`.  `states` maps each key of its optimizer
    state to a shape.  States start as zeros; `starts_from_zeros` says that the optimizer's own
    first step is a step from there.  `capturable` is the form of its update (`run_group`).
    """

    name: str
    members: tuple[str, ...]
    layout: FlatLayout
    shape: Shape
    states: Mapping[str, Shape]
    starts_from_zeros: bool
    capturable: bool

    def input_names(self, is_flat: bool) -> tuple[str, str]:
        """Of the tensor and its gradient in the program."""
        return (f"parameter/{self.name}" if is_flat else self.name), f"gradient/{self.name}"


@dataclass(frozen=True)
class UpdatedGroup:
    """One parameter group; `parameters` are those that receive gradients.

    A flat group is one vector, named by the number of the group, or several, named "0.0", "0.1";
    in any other each parameter is a tensor of its own.
    """

    parameters: tuple[str, ...]
    tensors: tuple[Updated, ...]
    is_flat: bool


@dataclass(frozen=True)
class OptimizerProgram:
    """The update of every group k, clipping included.

    Inputs, for every vector v of a flat group: parameter/v and gradient/v (float32 [length]), KEY/v
    for every state (role "optimizer"); else NAME, gradient/NAME and KEY/NAME for every parameter.
    Then learning_rate (role "hyper", float32 [groups]) and hearth/step (int32, steps done).
    Outputs of the same names, role "parameter" and "optimizer", are the new values; "norm" (role
    "norm") is the gradient norm before it is clipped, where it is or was asked for.  Groups without
    a gradient have no tensors.  Under loss scaling the state of the scaler (role "scaler") goes in
    and out, too.
    """

    graph: AtenGraph
    groups: tuple[UpdatedGroup, ...]


def capture_optimizer(step: TrainStep, with_gradient: Sequence[str]) -> OptimizerProgram:
    """Capture the update of the parameters that receive gradients (PyTorch skips the others)."""
    groups = tuple(_describe(step, index, with_gradient) for index in range(len(step.groups)))
    updates = [
        (k, tensor, tensor.input_names(group.is_flat))
        for k, group in enumerate(groups)
        for tensor in group.tensors
    ]
    inputs = [i for _, tensor, names in updates for i in _inputs(tensor, names)]
    inputs.append(TracedInput("learning_rate", "hyper", (len(groups),), torch.float32))
    inputs.append(TracedInput(STEP, "step", (), torch.int32))
    inputs += SCALER_INPUTS if step.scaling else ()

    def body(t: dict[str, torch.Tensor], tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        gradients = {tensor.name: t[gradient] for _, tensor, (_, gradient) in updates}
        outputs = []
        finite = None
        if step.scaling is not None:
            finite = all_finite(gradients.values())
            outputs += updated_scaler(t, step.scaling, finite)
        if step.clip_grad_value is not None:
            gradients = _clipped_values(gradients, step.clip_grad_value)
        if step.clip_grad_norm is not None:
            gradients, norm = _clipped(gradients, step.clip_grad_norm)
            outputs.append(TracedOutput("norm", "norm", norm))
        elif step.gradient_norm:
            norm = torch.nn.utils.get_total_norm(gradients.values(), foreach=False)
            outputs.append(TracedOutput("norm", "norm", norm))
        for k, tensor, (parameter, _) in updates:
            gradient = gradients[tensor.name]
            outputs += _update(step.optimizer, k, tensor, parameter, t, gradient, finite)
        return outputs

    name = type(step.optimizer).__name__
    with untouched(), as_if_compiling():
        try:
            graph = capture(body, inputs, rewrites=TENSOR_SCALARS, place=f"optimizer {name}")
        except CaptureError as error:
            # `item` gives the tensor itself here, so that asking for its truth asks for ever.
            if isinstance(error.__cause__, RecursionError):
                raise cannot_compile(name, "it decides by the value of a tensor") from error
            raise
    return OptimizerProgram(reading_chosen(graph) if step.scaling else graph, groups)


def _inputs(tensor: Updated, names: tuple[str, str]) -> list[TracedInput]:
    parameter, gradient = names
    return [
        TracedInput(parameter, "parameter", tensor.shape, torch.float32),
        TracedInput(gradient, "gradient", tensor.shape, torch.float32),
        *(
            TracedInput(f"{key}/{tensor.name}", "optimizer", shape, torch.float32)
            for key, shape in tensor.states.items()
        ),
    ]


def _update(
    optimizer: torch.optim.Optimizer,
    k: int,
    tensor: Updated,
    parameter: str,
    t: Mapping[str, torch.Tensor],
    gradient: torch.Tensor,
    finite: torch.Tensor | None,
) -> list[TracedOutput]:
    """The new values; those of before where a gradient is not finite."""
    state = {key: t[f"{key}/{tensor.name}"] for key in tensor.states}
    old, lr = t[parameter], t["learning_rate"][k]
    new, new_state = run_group(optimizer, k, old, gradient, state, lr, tensor.capturable)
    if not tensor.starts_from_zeros:
        at_start = t[STEP if finite is None else UPDATES] == 0
        first, first_state = run_group(optimizer, k, old, gradient, {}, lr, tensor.capturable)
        new = torch.where(at_start, first, new)
        new_state = {s: torch.where(at_start, first_state[s], new_state[s]) for s in state}
    new_state = {s: _without_subnormal(value) for s, value in new_state.items()}
    if finite is not None:
        new = torch.where(finite, new, old)
        new_state = {s: torch.where(finite, new_state[s], state[s]) for s in state}
    return [
        TracedOutput(parameter, "parameter", new),
        *(TracedOutput(f"{s}/{tensor.name}", "optimizer", new_state[s]) for s in state),
    ]


def _without_subnormal(state: torch.Tensor) -> torch.Tensor:
    """Numbers below 2^-126 as zeros.

    A moving average gets there where no gradient comes any more, as behind a ReLU that is always
    off, and stays; a processor takes several times as long for such a number.
    """
    if state.dim() == 0:
        return state
    return torch.where(state.abs() < torch.finfo(torch.float32).tiny, 0.0, state)


def _clipped(
    gradients: Mapping[str, torch.Tensor], limit: float
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """`torch.nn.utils.clip_grad_norm_` over the gradients of all groups."""
    holders = _holders(gradients)
    norm = torch.nn.utils.clip_grad_norm_(holders.values(), limit, foreach=False)
    return _held(holders), norm


def _clipped_values(gradients: Mapping[str, torch.Tensor], limit: float) -> dict[str, torch.Tensor]:
    """`torch.nn.utils.clip_grad_value_` over the gradients of all groups."""
    holders = _holders(gradients)
    torch.nn.utils.clip_grad_value_(holders.values(), limit, foreach=False)
    return _held(holders)


def _holders(gradients: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors with copies of the gradients as their `grad`: what PyTorch's clipping takes."""
    holders = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    for name, gradient in gradients.items():
        holders[name].grad = gradient.clone()
    return holders


def _held(holders: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: holder.grad for n, holder in holders.items() if holder.grad is not None}


def _describe(step: TrainStep, index: int, with_gradient: Sequence[str]) -> UpdatedGroup:
    members = tuple(n for n in step.groups[index] if n in with_gradient)
    if not members or not is_elementwise(step.optimizer, index):
        tensors = (_updated(step, index, n, (n,), is_flat=False) for n in members)
        return UpdatedGroup(members, tuple(tensors), is_flat=False)
    counts = vectors_of((step.parameters[n].shape for n in members), MOST_ELEMENTS)
    names = [str(index)] if len(counts) == 1 else [f"{index}.{i}" for i in range(len(counts))]
    rest = iter(members)
    vectors = (
        _updated(step, index, name, tuple(islice(rest, count)), is_flat=True)
        for name, count in zip(names, counts, strict=True)
    )
    return UpdatedGroup(members, tuple(vectors), is_flat=True)


def _updated(
    step: TrainStep, index: int, name: str, members: tuple[str, ...], is_flat: bool
) -> Updated:
    shapes = [tuple(step.parameters[n].shape) for n in members]
    layout = flat_layout(shapes)
    shape = (layout.length,) if is_flat else shapes[0]
    states = state_shapes(step.optimizer, index, shape)
    zeros = starts_from_zeros(step.optimizer, index, shape)
    capturable = rests_at_rate_zero(step.optimizer, index, (4,) if is_flat else shape)
    return Updated(name, members, layout, shape, states, zeros, capturable)

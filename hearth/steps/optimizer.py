"""The real `torch.optim` update, traced once per parameter group on one flat vector.

This works for every optimizer whose update is pointwise, which is probed, not assumed
(`optimizer_update.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from hearth.capture.graph import AtenGraph
from hearth.capture.trace import TracedInput, TracedOutput, Tracing, capture
from hearth.steps.examples import STEP
from hearth.steps.flat import FlatLayout, flat_layout
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
    checked_state,
    run_group,
    starts_from_zeros,
)
from hearth.steps.train_step import TrainStep, untouched


@dataclass(frozen=True)
class FlatGroup:
    """One parameter group as flat vectors.

    `parameters` are those that receive gradients, in the order of the layout.  Every key of
    `vector_states` is a vector like the parameters, every key of `scalar_states` one 0-d float32
    tensor for the whole group.  All start as zeros; `starts_from_zeros` says that the optimizer's
    own first step is a step from that state.
    """

    parameters: tuple[str, ...]
    layout: FlatLayout
    vector_states: tuple[str, ...]
    scalar_states: tuple[str, ...]
    starts_from_zeros: bool


@dataclass(frozen=True)
class OptimizerProgram:
    """The update of every group k, clipping included.

    Inputs: parameter/k and gradient/k (float32 [length]), KEY/k for every state (role
    "optimizer"), learning_rate (role "hyper", float32 [groups]), hearth/step (int32, steps done).
    Outputs of the same names, role "parameter" and "optimizer", are the new values; "norm" (role
    "norm") is the gradient norm before clipping.  Groups without a gradient have no tensors.  Under
    loss scaling the state of the scaler (role "scaler") goes in and out, too.
    """

    graph: AtenGraph
    groups: tuple[FlatGroup, ...]


def capture_optimizer(step: TrainStep, with_gradient: Sequence[str]) -> OptimizerProgram:
    """Capture the update of the parameters that receive gradients (PyTorch skips the others)."""
    groups = tuple(_describe(step, index, with_gradient) for index in range(len(step.groups)))
    inputs = [i for k, group in enumerate(groups) for i in _group_inputs(k, group)]
    inputs.append(TracedInput("learning_rate", "hyper", (len(groups),), torch.float32))
    inputs.append(TracedInput(STEP, "step", (), torch.int32))
    inputs += SCALER_INPUTS if step.scaling else ()

    def body(t: dict[str, torch.Tensor], tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        active = [k for k, group in enumerate(groups) if group.parameters]
        gradients = {k: t[f"gradient/{k}"] for k in active}
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
        for k in active:
            outputs += _update(step.optimizer, k, groups[k], t, gradients[k], finite)
        return outputs

    with untouched(), as_if_compiling():
        place = f"optimizer {type(step.optimizer).__name__}"
        graph = capture(body, inputs, rewrites=TENSOR_SCALARS, place=place)
    return OptimizerProgram(reading_chosen(graph) if step.scaling else graph, groups)


def _group_inputs(k: int, group: FlatGroup) -> list[TracedInput]:
    if not group.parameters:
        return []
    vector = (group.layout.length,)
    return [
        TracedInput(f"parameter/{k}", "parameter", vector, torch.float32),
        TracedInput(f"gradient/{k}", "gradient", vector, torch.float32),
        *(TracedInput(f"{s}/{k}", "optimizer", vector, torch.float32) for s in group.vector_states),
        *(TracedInput(f"{s}/{k}", "optimizer", (), torch.float32) for s in group.scalar_states),
    ]


def _update(
    optimizer: torch.optim.Optimizer,
    k: int,
    group: FlatGroup,
    t: Mapping[str, torch.Tensor],
    gradient: torch.Tensor,
    finite: torch.Tensor | None,
) -> list[TracedOutput]:
    """The new values; those of before where a gradient is not finite."""
    keys = (*group.vector_states, *group.scalar_states)
    state, lr = {key: t[f"{key}/{k}"] for key in keys}, t["learning_rate"][k]
    old = t[f"parameter/{k}"]
    new, new_state = run_group(optimizer, k, old, gradient, state, lr)
    if not group.starts_from_zeros:
        at_start = t[STEP if finite is None else UPDATES] == 0
        first, first_state = run_group(optimizer, k, old, gradient, {}, lr)
        new = torch.where(at_start, first, new)
        new_state = {s: torch.where(at_start, first_state[s], new_state[s]) for s in keys}
    if finite is not None:
        new = torch.where(finite, new, old)
        new_state = {s: torch.where(finite, new_state[s], state[s]) for s in keys}
    return [
        TracedOutput(f"parameter/{k}", "parameter", new),
        *(TracedOutput(f"{s}/{k}", "optimizer", new_state[s]) for s in keys),
    ]


def _clipped(
    gradients: Mapping[int, torch.Tensor], limit: float
) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """`torch.nn.utils.clip_grad_norm_` over the flat gradients of all groups."""
    holders = _holders(gradients)
    norm = torch.nn.utils.clip_grad_norm_(holders.values(), limit, foreach=False)
    return _held(holders), norm


def _clipped_values(gradients: Mapping[int, torch.Tensor], limit: float) -> dict[int, torch.Tensor]:
    """`torch.nn.utils.clip_grad_value_` over the flat gradients of all groups."""
    holders = _holders(gradients)
    torch.nn.utils.clip_grad_value_(holders.values(), limit, foreach=False)
    return _held(holders)


def _holders(gradients: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Tensors with copies of the gradients as their `grad`: what PyTorch's clipping takes."""
    holders = {k: torch.zeros_like(gradient) for k, gradient in gradients.items()}
    for k, gradient in gradients.items():
        holders[k].grad = gradient.clone()
    return holders


def _held(holders: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    return {k: holder.grad for k, holder in holders.items() if holder.grad is not None}


def _describe(step: TrainStep, index: int, with_gradient: Sequence[str]) -> FlatGroup:
    state = checked_state(step.optimizer, index)
    members = tuple(n for n in step.groups[index] if n in with_gradient)
    return FlatGroup(
        members,
        flat_layout([tuple(step.parameters[n].shape) for n in members]),
        tuple(k for k, s in state.items() if s.dim() == 1),
        tuple(k for k, s in state.items() if s.dim() == 0),
        starts_from_zeros(step.optimizer, index),
    )

"""The real `torch.optim` update, traced once per parameter group on one flat vector.

This works for every optimizer whose update is pointwise, which is probed, not assumed: no class
is known by name.  The user's optimizer is never stepped; we run copies without its state.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from hearth.capture.graph import AtenGraph
from hearth.capture.trace import TracedInput, TracedOutput, Tracing, capture
from hearth.errors import UnsupportableError
from hearth.steps.examples import STEP
from hearth.steps.flat import FlatLayout, flat_layout
from hearth.steps.train_step import TrainStep, untouched

State = dict[str, torch.Tensor]


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
    "norm") is the gradient norm before clipping.  Groups without a gradient have no tensors.
    """

    graph: AtenGraph
    groups: tuple[FlatGroup, ...]


def capture_optimizer(step: TrainStep, with_gradient: Sequence[str]) -> OptimizerProgram:
    """Capture the update of the parameters that receive gradients (PyTorch skips the others)."""
    groups = tuple(_describe(step, index, with_gradient) for index in range(len(step.groups)))
    inputs = [i for k, group in enumerate(groups) for i in _group_inputs(k, group)]
    inputs.append(TracedInput("learning_rate", "hyper", (len(groups),), torch.float32))
    inputs.append(TracedInput(STEP, "step", (), torch.int32))

    def body(t: dict[str, torch.Tensor], tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        active = [k for k, group in enumerate(groups) if group.parameters]
        gradients = {k: t[f"gradient/{k}"] for k in active}
        outputs = []
        if step.clip_grad_value is not None:
            gradients = _clipped_values(gradients, step.clip_grad_value)
        if step.clip_grad_norm is not None:
            gradients, norm = _clipped(gradients, step.clip_grad_norm)
            outputs.append(TracedOutput("norm", "norm", norm))
        for k in active:
            outputs += _update(step.optimizer, k, groups[k], t, gradients[k])
        return outputs

    with untouched(), _as_if_compiling():
        place = f"optimizer {type(step.optimizer).__name__}"
        graph = capture(body, inputs, rewrites=_TENSOR_SCALARS, place=place)
    return OptimizerProgram(graph, groups)


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
) -> list[TracedOutput]:
    keys = (*group.vector_states, *group.scalar_states)
    state, lr = {key: t[f"{key}/{k}"] for key in keys}, t["learning_rate"][k]
    old = t[f"parameter/{k}"]
    new, new_state = run_group(optimizer, k, old, gradient, state, lr)
    if not group.starts_from_zeros:
        at_start = t[STEP] == 0
        first, first_state = run_group(optimizer, k, old, gradient, {}, lr)
        new = torch.where(at_start, first, new)
        new_state = {s: torch.where(at_start, first_state[s], new_state[s]) for s in keys}
    return [
        TracedOutput(f"parameter/{k}", "parameter", new),
        *(TracedOutput(f"{s}/{k}", "optimizer", new_state[s]) for s in keys),
    ]


def run_group(
    optimizer: torch.optim.Optimizer,
    index: int,
    parameter: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    learning_rate: torch.Tensor,
) -> tuple[torch.Tensor, State]:
    """One step of group `index` on one tensor: the new parameter and the new state.

    An empty state is the optimizer's own first step.
    """
    copy: Any = object.__new__(type(optimizer))
    copy.__dict__.update(optimizer.__dict__)
    q = parameter.detach().clone().requires_grad_()
    q.grad = gradient
    options = {**optimizer.param_groups[index], "params": [q], "lr": learning_rate}
    overruled = {"foreach": False, "fused": False, "differentiable": False, "capturable": True}
    options.update({k: v for k, v in overruled.items() if k in options})
    copy.param_groups, copy.state = [options], defaultdict(dict)
    if state:
        copy.state[q] = {key: tensor.clone() for key, tensor in state.items()}
    with torch.no_grad():
        inspect.unwrap(type(copy).step)(copy)
    found = {k: s for k, s in copy.state[q].items() if isinstance(s, torch.Tensor)}
    return q.detach(), found


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


@contextmanager
def _as_if_compiling() -> Iterator[None]:
    """`capturable=True` on a CPU, and no check for CUDA graphs."""
    with mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        yield


def _tensor_factor(function: Any, option: str, scaled: int) -> Callable[..., Any]:
    """`x.add_(y, alpha=lr)` with a tensor lr, without reading its value: `x.add_(y * lr)`."""

    def rule(*args: Any, **options: Any) -> Any:
        factor = options.pop(option, 1)
        if not isinstance(factor, torch.Tensor):
            return NotImplemented
        operands = [a * factor if i == scaled else a for i, a in enumerate(args)]
        return function(*operands, **options)

    return rule


def _full_like(x: torch.Tensor, fill_value: Any, **_: Any) -> Any:
    return fill_value.expand(x.shape) if isinstance(fill_value, torch.Tensor) else NotImplemented


_FACTORS = {
    "add": ("alpha", 1),
    "sub": ("alpha", 1),
    "addcmul": ("value", 1),
    "addcdiv": ("value", 1),
}
_TENSOR_SCALARS: dict[Any, Callable[..., Any]] = {
    torch.Tensor.item: lambda x: x,
    torch.full_like: _full_like,
} | {
    function: _tensor_factor(function, *_FACTORS[name])
    for name in _FACTORS
    for function in (
        getattr(torch.Tensor, name),
        getattr(torch.Tensor, f"{name}_"),
        getattr(torch, name),
    )
}


# ------------------------------------------------------------------------------------------ probes


def _probe(
    optimizer: torch.optim.Optimizer, index: int, shape: tuple[int, ...], steps: int, zeros: bool
) -> tuple[torch.Tensor, State]:
    """A few eager float64 steps on fixed numbers, from the first step or from a zero state."""
    lr = torch.tensor(0.01, dtype=torch.float64)
    p = torch.linspace(-1.0, 2.0, 4, dtype=torch.float64).reshape(shape)
    state: State = {}
    if zeros:
        _, made = run_group(optimizer, index, p, torch.ones_like(p), {}, lr)
        state = {k: torch.zeros_like(v) for k, v in made.items()}
    for i in range(steps):
        g = torch.linspace(0.5, -1.5 - i, 4, dtype=torch.float64).reshape(shape)
        p, state = run_group(optimizer, index, p, g, state, lr)
    return p, state


def _starts_from_zeros(optimizer: torch.optim.Optimizer, index: int) -> bool:
    """Whether a step from a zero state is the same as the optimizer's own first step."""
    with _as_if_compiling():
        first, zeros = (_probe(optimizer, index, (4,), 1, zeros) for zeros in (False, True))
    return _same(first, zeros)


def _same(a: tuple[torch.Tensor, State], b: tuple[torch.Tensor, State]) -> bool:
    pairs = [(a[0], b[0]), *((a[1][k], b[1].get(k, a[1][k] + 1)) for k in a[1])]
    return all(
        x.numel() == y.numel() and torch.allclose(x, y.reshape(x.shape), rtol=1e-13, atol=1e-15)
        for x, y in pairs
    )


def _describe(step: TrainStep, index: int, with_gradient: Sequence[str]) -> FlatGroup:
    state = _checked_state(step.optimizer, index)
    members = tuple(n for n in step.groups[index] if n in with_gradient)
    return FlatGroup(
        members,
        flat_layout([tuple(step.parameters[n].shape) for n in members]),
        tuple(k for k, s in state.items() if s.dim() == 1),
        tuple(k for k, s in state.items() if s.dim() == 0),
        _starts_from_zeros(step.optimizer, index),
    )


def _checked_state(optimizer: torch.optim.Optimizer, index: int) -> State:
    """The state for a parameter of shape (4,), if a flat vector can stand for any parameter."""
    name = type(optimizer).__name__
    try:
        with _as_if_compiling():
            flat = _probe(optimizer, index, (4,), 2, zeros=False)
            square = _probe(optimizer, index, (2, 2), 2, zeros=False)
    except Exception as error:
        raise _not_pointwise(name, f"{type(error).__name__}: {error}") from error
    odd = {k: tuple(s.shape) for k, s in flat[1].items() if s.shape not in ((), (4,))}
    if odd:
        raise _not_pointwise(name, f"it keeps state of shape {odd} for a parameter of shape (4,)")
    if not _same(flat, square):
        raise _not_pointwise(name, "its update depends on the shape of a parameter")
    if not _is_elementwise(optimizer, index):
        raise _not_pointwise(name, "the update of one element depends on other elements")
    return flat[1]


def _is_elementwise(optimizer: torch.optim.Optimizer, index: int) -> bool:
    """Whether the first element's update ignores the others: change them and look."""
    lr = torch.tensor(0.01, dtype=torch.float64)
    results = []
    with _as_if_compiling():
        for rest in (0.3, -7.0):
            p = torch.tensor([1.0, rest, rest], dtype=torch.float64)
            p, state = run_group(optimizer, index, p, p * 2, {}, lr)
            p, state = run_group(optimizer, index, p, p * 3, state, lr)
            results.append(p[0])
    return bool(torch.equal(*results))


def _not_pointwise(name: str, why: str) -> UnsupportableError:
    return UnsupportableError(
        f"the optimizer {name} cannot be compiled",
        why=f"a compiled update treats every element of a parameter alike ({why})",
        remedy="use SGD, Adam, AdamW, RMSprop or another elementwise optimizer of torch.optim",
    )

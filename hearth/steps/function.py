"""Any PyTorch function as a captured program, with or without a batch dimension.

What a function returns names its outputs, and a module whose tensors it reads becomes state of the
bundle.  Nothing here trains: changes that a function makes to buffers end with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from hearth.capture.graph import AtenGraph
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.errors import InvalidInputError
from hearth.steps.examples import RANDOM_INPUTS, as_tuple, traced
from hearth.steps.swap import swapped
from hearth.steps.train_step import check_stored, untouched

# Of one example: dimension 0 is the batch or not, or all the dimensions that are.
BatchAxes = bool | tuple[int, ...]
Batched = bool | Sequence[BatchAxes]


@dataclass(frozen=True)
class Function:
    """A PyTorch function of tensors, and what it is compiled for.

    `batched` says, for all or for each example, whether dimension 0 is the batch; a tuple names
    the dimensions that are, as (0, 1) for distances between all pairs of a batch.
    """

    function: Callable[..., Any]
    examples: torch.Tensor | Sequence[torch.Tensor]
    batched: Batched = True

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def model(self) -> nn.Module | None:
        return self.function if isinstance(self.function, nn.Module) else None


def capture_function(
    function: Callable[..., Any],
    examples: torch.Tensor | Sequence[torch.Tensor],
    batched: Batched = True,
    model: nn.Module | None = None,
) -> AtenGraph:
    """Capture `function(*tensors)`: inputs input/0, ..., hearth/seed, hearth/step, and outputs
    named by `output_names`.

    `batched` is that of `Function`.  Parameters and buffers of `model` enter under their own
    names; other tensors that the function closes over become constants.
    """
    tensors = as_tuple(examples, "examples")
    inputs = traced(tensors, "input", _each_batched(batched, len(tensors)))
    _check_batch(inputs)
    parameters, buffers = _stored(model)
    check_stored({**parameters, **buffers})
    state = [
        TracedInput(name, role, tuple(t.shape), t.dtype)
        for role, stored in (("parameter", parameters), ("buffer", buffers))
        for name, t in stored.items()
    ]

    def body(t: dict[str, torch.Tensor], tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        trained = {n: t[n].detach().requires_grad_(p.requires_grad) for n, p in parameters.items()}
        copies = {n: t[n].clone() for n in buffers}  # modules update them in place
        with nullcontext() if model is None else swapped(model, {**trained, **copies}):
            result = function(*(t[i.name] for i in inputs))
        return [
            TracedOutput(name, "output", leaf.detach())
            for name, leaf in zip(output_names(result), pytree.tree_leaves(result), strict=True)
            if isinstance(leaf, torch.Tensor)
        ]

    modules = {} if model is None else {module: name for name, module in model.named_modules()}
    with untouched(function, model):
        return capture(body, [*state, *inputs, *RANDOM_INPUTS], modules)


def output_names(result: Any) -> list[str]:
    """One name per leaf of what a function returned: "output/KEY" in a dict or NamedTuple, with
    the whole path where they nest, and "output/K" for leaf number K elsewhere.
    """
    names = []
    for k, (path, _) in enumerate(pytree.tree_leaves_with_path(result)):
        named = any(isinstance(key, (pytree.MappingKey, pytree.GetAttrKey)) for key in path)
        parts = [_part(key) for key in path] if named else [str(k)]
        names.append("/".join(["output", *parts]))
    return names


def _part(key: Any) -> str:
    match key:
        case pytree.MappingKey(key=part) | pytree.SequenceKey(idx=part):
            return str(part)
        case pytree.GetAttrKey(name=part):
            return str(part)
    return str(key)


def _each_batched(batched: Batched, count: int) -> list[BatchAxes]:
    flags: list[BatchAxes] = [batched] * count if isinstance(batched, bool) else list(batched)
    if len(flags) != count:
        raise InvalidInputError(f"{len(flags)} batched flags for {count} examples")
    return flags


def _check_batch(inputs: Sequence[TracedInput]) -> None:
    """All batch dimensions exist, have one extent, and that is at least one."""
    for entry in inputs:
        missing = [axis for axis in entry.batch_axes if axis not in range(len(entry.shape))]
        if missing:
            raise InvalidInputError(
                f"{entry.name} has shape {list(entry.shape)}, no dimension {missing[0]}",
                why="that dimension is said to be the batch",
                remedy="pass batched=False, or one flag per example",
            )
    sizes = [entry.shape[axis] for entry in inputs for axis in entry.batch_axes]
    if len(set(sizes)) > 1 or 0 in sizes:
        raise InvalidInputError(
            f"the examples have batch sizes {sizes}",
            why="there is one batch size, at least 1",
            remedy="say with `batched` which dimensions are the batch; dimension 0 is by default",
        )


def _stored(model: nn.Module | None) -> tuple[dict[str, nn.Parameter], dict[str, torch.Tensor]]:
    if model is None:
        return {}, {}
    return dict(model.named_parameters()), dict(model.named_buffers())

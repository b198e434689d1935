"""The samples of PyTorch's databases as plain functions of tensors.

A backward case is a function too: it gives the gradients of a fixed weighting of the outputs.  All
samples are made with one seed, so that a case is known by its operator, dtype and number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.utils import _pytree as pytree

Tensors = list[torch.Tensor]
DTYPES = (torch.float32, torch.int64, torch.bool)
# PyTorch does not say which of equal elements it takes.  Samples of integers and truth values have
# many; of these only so many outputs are compared.
AMONG_EQUALS = {"topk": 1, "kthvalue": 1, "mode": 1, "sort": 1, "argsort": 0}
FORWARD, BACKWARD = "forward", "backward"
DIRECTIONS = (FORWARD, BACKWARD)


@dataclass(frozen=True, eq=False)
class Case:
    """`function(*tensors)`, every tensor an input; floats may be passed in float64 as well."""

    label: str
    function: Callable[..., Tensors]
    tensors: Tensors


@dataclass(frozen=True, eq=False)
class Entry:
    """An operator or a module of the databases."""

    name: str
    is_differentiable: bool
    draw: Callable[[str], Iterator[Case]]  # direction -> cases

    def cases(self, direction: str) -> list[Case]:
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(0)
        return list(self.draw(direction))


@cache
def operators() -> dict[str, Entry]:
    return {name: _operator(name, info) for name, info in _named(op_db)}


@cache
def modules() -> dict[str, Entry]:
    """Without the lazy modules: they have no parameters before the first batch."""
    return {
        info.name: Entry(info.name, True, lambda d, info=info: _module_cases(info, d))
        for info in module_db
        if not info.is_lazy
    }


def _named(infos: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for info in infos:
        variant = info.variant_test_name
        yield (f"{info.name}.{variant}" if variant else info.name), info


def _operator(name: str, info: Any) -> Entry:
    dtypes = info.supported_backward_dtypes("cpu")
    is_differentiable = info.supports_autograd and torch.float32 in dtypes
    return Entry(name, is_differentiable, lambda direction: _operator_cases(info, direction))


def _operator_cases(info: Any, direction: str) -> Iterator[Case]:
    wants_gradient = direction == BACKWARD
    for dtype in DTYPES[:1] if wants_gradient else DTYPES:
        if not info.supports_dtype(dtype, "cpu"):
            continue
        samples = info.sample_inputs("cpu", dtype, requires_grad=wants_gradient)
        for number, sample in enumerate(samples):
            given = (sample.input, sample.args, sample.kwargs)
            defined = AMONG_EQUALS.get(info.name) if dtype != torch.float32 else None
            case = _case(
                f"{str(dtype).removeprefix('torch.')} {number}",
                lambda x, args, kwargs: info.op(x, *args, **kwargs),
                given,
                sample.output_process_fn_grad,
                direction,
                defined,
            )
            if case is not None:
                yield case


def _case(
    label: str,
    function: Callable[..., Any],
    given: tuple[Any, ...],
    process: Callable[[Any], Any],
    direction: str,
    outputs: int | None = None,
) -> Case | None:
    """The call as a function of its tensors, of which the first `outputs` results count.

    None where nothing can be differentiated.
    """
    leaves, spec = pytree.tree_flatten(given)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    tracked = [leaves[i].requires_grad for i in places]

    def call(*tensors: torch.Tensor) -> Tensors:
        filled = [_widened(leaf) for leaf in leaves]
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        result = function(*pytree.tree_unflatten(filled, spec))
        return _tensors(process(result) if direction == BACKWARD else result)[:outputs]

    tensors = [leaves[i].detach().clone() for i in places]
    if direction == FORWARD:
        return Case(label, call, tensors)
    return Case(label, _gradient(call, tracked), tensors) if any(tracked) else None


def _widened(leaf: Any) -> Any:
    """An argument `dtype=torch.float32` follows the dtype that the case is run in."""
    return torch.get_default_dtype() if leaf is torch.float32 else leaf


def _tensors(result: Any) -> Tensors:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _gradient(function: Callable[..., Tensors], tracked: Sequence[bool]) -> Callable[..., Tensors]:
    """The gradients of sum(w * outputs), with different weights w for neighbouring elements."""

    def run(*tensors: torch.Tensor) -> Tensors:
        leaves = [t.detach().requires_grad_(r) for t, r in zip(tensors, tracked, strict=True)]
        outputs = [y for y in function(*leaves) if y.requires_grad and y.is_floating_point()]
        if not outputs:
            return []
        total = torch.stack([(y * _weights(y)).sum() for y in outputs]).sum()
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        return [g for g in torch.autograd.grad(total, wanted, allow_unused=True) if g is not None]

    return run


def _weights(y: torch.Tensor) -> torch.Tensor:
    return ((torch.arange(y.numel()) % 7 - 2.5) / 4).reshape(y.shape).to(y.dtype)


# ---------------------------------------------------------------- modules


def _module_cases(info: Any, direction: str) -> Iterator[Case]:
    for training in (True, False):
        samples = info.module_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=direction == BACKWARD,
            training=training,
        )  # fmt: skip
        for number, sample in enumerate(samples):
            made = sample.constructor_input
            module = info.module_cls(*made.args, **made.kwargs).train(training)
            label = f"{'train' if training else 'eval'} {number} {sample.desc}".strip()
            case = _module_case(label, module, sample.forward_input, direction)
            if case is not None:
                yield case


def _module_case(label: str, module: nn.Module, given: Any, direction: str) -> Case | None:
    """Parameters, buffers and inputs in; outputs and changed buffers out."""
    parameters = dict(module.named_parameters())
    buffers = {name: b.detach() for name, b in module.named_buffers()}

    def call(
        parameters: dict[str, torch.Tensor],
        buffers: dict[str, torch.Tensor],
        args: Any,
        kwargs: Any,
    ) -> Any:
        state = {**parameters, **{name: b.clone() for name, b in buffers.items()}}
        result = torch.func.functional_call(module, state, args, kwargs)
        return result, [state[name] for name in buffers]

    return _case(label, call, (parameters, buffers, given.args, given.kwargs), _same, direction)


def _same(result: Any) -> Any:
    return result

"""Any PyTorch function as a captured program, with or without a batch dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from hearth.capture.graph import AtenGraph
from hearth.capture.trace import TracedOutput, Tracing, capture
from hearth.errors import InvalidInputError
from hearth.steps.examples import RANDOM_INPUTS, as_tuple, check_batch, traced
from hearth.steps.train_step import untouched


def capture_function(
    function: Callable[..., Any],
    examples: torch.Tensor | Sequence[torch.Tensor],
    batched: bool | Sequence[bool] = True,
) -> AtenGraph:
    """Capture `function(*tensors)`: inputs input/0, ..., hearth/seed, hearth/step; outputs
    output/0, ....

    `batched` says, for all or for each example, whether dimension 0 is the batch.  Tensors that
    the function closes over become constants.
    """
    tensors = as_tuple(examples, "examples")
    flags = [batched] * len(tensors) if isinstance(batched, bool) else list(batched)
    if len(flags) != len(tensors):
        raise InvalidInputError(f"{len(flags)} batched flags for {len(tensors)} examples")
    check_batch([t for t, flag in zip(tensors, flags, strict=True) if flag])
    inputs = traced(tensors, "input", flags)

    def body(t: dict[str, torch.Tensor], tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        leaves = pytree.tree_leaves(function(*(t[i.name] for i in inputs)))
        return [
            TracedOutput(f"output/{k}", "output", leaf.detach())
            for k, leaf in enumerate(leaves)
            if isinstance(leaf, torch.Tensor)
        ]

    modules = (
        {module: name for name, module in function.named_modules()}
        if isinstance(function, nn.Module)
        else {}
    )
    with untouched(function):
        return capture(body, [*inputs, *RANDOM_INPUTS], modules)

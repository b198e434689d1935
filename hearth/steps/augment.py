"""A batch as the training step sees it: through the augmentation of the step, if it has one.

The trace and eager PyTorch both call `augment`, so that there is one meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from hearth.errors import CaptureError
from hearth.functions.augmentation import takes_targets

Augmentation = Callable[..., Any]
Tensors = Sequence[torch.Tensor]


def augment(
    augmentation: Augmentation | None, inputs: Tensors, targets: Tensors
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Inputs for the model and targets for the loss.

    A function of one tensor gets the first input and returns what takes its place; any other gets
    all inputs and targets, and returns as many inputs, and then what the loss gets after the
    outputs.  No gradient flows through.  Raises `CaptureError` for anything else that it returns.
    """
    if augmentation is None:
        return list(inputs), list(targets)
    with torch.no_grad():
        if takes_targets(augmentation):
            returned = pytree.tree_leaves(augmentation(*inputs, *targets))
        else:
            returned = [augmentation(inputs[0]), *inputs[1:], *targets]
    _check(returned, inputs, targets)
    return returned[: len(inputs)], returned[len(inputs) :]


def _check(returned: Sequence[Any], inputs: Tensors, targets: Tensors) -> None:
    rule = "a function of one tensor returns what takes the place of the first input; one of the "
    rule += "whole batch all inputs, then the targets for the loss"
    for value in returned:
        if not isinstance(value, torch.Tensor):
            raise CaptureError(
                f"the augmentation returned a {type(value).__name__}",
                why=rule,
                remedy="return tensors only",
            )
    least = len(inputs) + min(len(targets), 1)
    if len(returned) < least:
        raise CaptureError(
            f"the augmentation returned {len(returned)} tensors for {len(inputs)} inputs and "
            f"{len(targets)} targets",
            why=rule,
            remedy="return (*inputs, *targets), also those that it leaves as they are",
        )
    for k, (new, given) in enumerate(zip(returned, inputs, strict=False)):
        if new.shape[:1] != given.shape[:1]:
            raise CaptureError(
                f"the augmentation made shape {list(new.shape)} of input {k}, "
                f"which has {list(given.shape)}",
                why="dimension 0 stays the batch: a sample in, a sample out",
            )

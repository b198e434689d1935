"""Example tensors: their shapes and dtypes are what a program is compiled for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hearth.capture.traced import TracedInput
from hearth.errors import InvalidInputError, UnsupportedOpError

_DTYPES = (torch.float32, torch.int64, torch.int32, torch.bool)


def as_tuple(tensors: torch.Tensor | Sequence[torch.Tensor], name: str) -> tuple[torch.Tensor, ...]:
    """A tensor or a sequence of tensors as a tuple; raises `InvalidInputError` otherwise."""
    items = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
    for index, item in enumerate(items):
        if not isinstance(item, torch.Tensor):
            raise InvalidInputError(
                f"{name}[{index}] is a {type(item).__name__}, not a tensor",
                remedy="pass a tensor, or a tuple of tensors",
            )
        if item.dtype not in _DTYPES:
            raise UnsupportedOpError(
                f"{name}[{index}] is {item.dtype}",
                why="programs take float32, int64, int32 and bool tensors",
                remedy="convert the example, and what you will feed, with .float() or .long()",
            )
    return items


def check_batch(tensors: Sequence[torch.Tensor]) -> None:
    """Dimension 0 of every example is the batch."""
    if any(t.dim() == 0 for t in tensors):
        raise InvalidInputError(
            "an example is a 0-d tensor", why="dimension 0 of every input and target is the batch"
        )
    sizes = [t.shape[0] for t in tensors]
    if len(set(sizes)) > 1 or 0 in sizes:
        raise InvalidInputError(
            f"the examples have batch sizes {sizes}",
            why="dimension 0 of every input and target is the batch",
            remedy="give every input and target the same number of rows, at least one",
        )


def traced(
    tensors: Sequence[torch.Tensor],
    role: str,
    batched: Sequence[bool | tuple[int, ...]] | None = None,
) -> list[TracedInput]:
    """Inputs named ROLE/0, ROLE/1, ..., batched in dimension 0 unless told otherwise."""
    flags = batched if batched is not None else [True] * len(tensors)
    return [
        TracedInput(f"{role}/{i}", role, tuple(t.shape), t.dtype, flag)
        for i, (t, flag) in enumerate(zip(tensors, flags, strict=True))
    ]


# The state entries of every program: of the random generator, and of the steps done.
SEED, STEP = "hearth/seed", "hearth/step"

_SEED_INPUT = TracedInput(SEED, "seed", (2,), torch.uint32)
RANDOM_INPUTS = (_SEED_INPUT, TracedInput(STEP, "step", (), torch.int32))
# Of a program that is told which random numbers to draw.
DRAW_INPUTS = (_SEED_INPUT, TracedInput("draw", "step", (), torch.int32))

"""The table of decompositions and our own operators, filled when the rules are imported.

A rule has the signature of the ATen overload it replaces and is written in plain torch; it runs
below autograd and functionalization while a step is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

aten = torch.ops.aten
RULES: dict[Any, Callable[..., Any]] = {}
Rule = TypeVar("Rule", bound=Callable[..., Any])
_LIBRARY = torch.library.Library("hearth", "FRAGMENT")  # type: ignore[no-untyped-call]


def rule(*overloads: Any) -> Callable[[Rule], Rule]:
    """Register a function as the decomposition of these overloads.

    It may return `NotImplemented` to leave a call as it is.
    """

    def register(function: Rule) -> Rule:
        twice = [overload for overload in overloads if overload in RULES]
        assert not twice, f"two rules for {twice}"
        RULES.update(dict.fromkeys(overloads, function))
        return function

    return register


def operator(schema: str, shape_of_result: Callable[..., torch.Tensor]) -> None:
    """Declare `hearth::schema`, an operator that exists in traces only."""
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(schema.split("(", maxsplit=1)[0], shape_of_result, "Meta")  # type: ignore[no-untyped-call]


def count(x: torch.Tensor, axes: Sequence[int]) -> int:
    """The number of elements that a reduction over these axes adds up."""
    result = 1
    for axis in axes:
        result *= x.shape[axis]
    return result


def channel_shape(x: torch.Tensor) -> list[int]:
    """The shape that broadcasts one value per channel (axis 1) over x."""
    return [1, -1] + [1] * (x.dim() - 2)

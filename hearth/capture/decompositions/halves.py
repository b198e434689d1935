"""Decompositions of operations on halves: computed in float32, and rounded once at the end.

So do PyTorch's own kernels; a rule that rounded after each of its steps would err more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.utils import _pytree as pytree

from hearth.capture.autocast import HALVES

Function = Callable[..., Any]


def in_float32(overload: Any, function: Function) -> Function:
    """The decomposition of `overload`, for halves as for floats."""

    def decomposed(*args: Any, **kwargs: Any) -> Any:
        if not any(_is_half(x) for x in pytree.tree_leaves((args, kwargs))):
            return function(*args, **kwargs)
        wide = pytree.tree_map_only(torch.Tensor, _widened, (args, kwargs))
        result = function(*wide[0], **wide[1])
        if result is NotImplemented:
            return result
        with disable_proxy_modes_tracing():
            promised = pytree.tree_leaves(overload(*args, **kwargs))
        if "batch_norm" in str(overload) and "backward" not in str(overload):
            promised[1:] = [None] * len(promised[1:])  # statistics have the parameters' type
        leaves, spec = pytree.tree_flatten(result)
        return pytree.tree_unflatten(
            [_as(x, like) for x, like in zip(leaves, promised, strict=True)], spec
        )

    return decomposed


def _is_half(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in HALVES


def _widened(x: torch.Tensor) -> torch.Tensor:
    return x.float() if _is_half(x) else x


def _as(x: Any, like: Any) -> Any:
    return x.to(like.dtype) if isinstance(x, torch.Tensor) and _is_half(like) else x

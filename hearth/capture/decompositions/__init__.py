"""Decompositions below autograd down to `opset.CORE_OPS`: PyTorch's core table, and ours on top."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from torch._decomp import core_aten_decompositions

from hearth.capture.decompositions.halves import in_float32
from hearth.capture.decompositions.registry import RULES, aten

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)  # each fills the table of rules

# Left whole by PyTorch's table: `canonicalize.py` has a form that suits a compiler better.
_KEPT = (
    *(aten.rsub.Scalar, aten.rsub.Tensor, aten.threshold_backward.default),
    *(aten.masked_fill.Scalar, aten.masked_fill.Tensor, aten.t.default, aten.transpose.int),
    *(aten.select_backward.default, aten.slice_backward.default, aten.select_scatter.default),
    *(aten.squeeze.default, aten.squeeze.dim, aten.stack.default, aten.unbind.int),
    *(aten.split.Tensor, aten.sum.default, aten.arange.default, aten.arange.start),
    *(aten.zeros.default, aten.zeros_like.default, aten.ones.default, aten.ones_like.default),
    *(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default),
    *(aten.fill.Scalar, aten.empty_like.default, aten.new_empty.default, aten._unsafe_view.default),
    *(aten.all.default, aten.all.dim, aten.all.dims, aten.detach.default),
)


@cache
def table() -> dict[Any, Callable[..., Any]]:
    """ATen overload → function that replaces it while a step is traced."""
    rules = {k: v for k, v in dict(core_aten_decompositions()).items() if k not in _KEPT}
    return {k: in_float32(k, v) for k, v in {**rules, **RULES}.items()}

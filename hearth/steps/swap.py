"""A model with other tensors in the place of its own.

Not `torch.func`: that finds modules by attribute, and `double` is a method of every module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def swapped(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model holds these tensors meanwhile, also where one of its own has several names."""
    own = {id(t): n for n, t in [*model.named_parameters(), *model.named_buffers()]}
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for module in model.modules():
        for table in (module.__dict__["_parameters"], module.__dict__["_buffers"]):
            kept.append((table, dict(table)))
            table.update({k: tensors[own[id(t)]] for k, t in table.items() if id(t) in own})
    try:
        yield
    finally:
        for table, entries in kept:
            table.update(entries)

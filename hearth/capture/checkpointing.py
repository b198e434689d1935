"""`torch.utils.checkpoint`: what its second forward pass computes is kept apart from the first.

The trace holds the pass twice.  To merge the two, as equal values are, would keep for the gradient
what the model wanted to compute again.  PyTorch opens a hook around every second pass; operations
inside are annotated with the number of the pass, and what they read from outside is read through
`hearth.recompute`, which nothing merges.  Parameters are read as they are: they stay anyway.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.fx import traceback as fx_traceback
from torch.utils import checkpoint

_KEY = "hearth.recomputed"


@contextmanager
def marked() -> Iterator[None]:
    """Annotate what the second passes compute, numbered in the order in which they run."""
    numbers = itertools.count()

    class Marked(checkpoint._recomputation_hook):
        def __enter__(self) -> Any:
            self.annotation: Any = fx_traceback.annotate({_KEY: next(numbers)})
            self.annotation.__enter__()
            return super().__enter__()

        def __exit__(self, *raised: object) -> Any:
            super().__exit__(*raised)
            return self.annotation.__exit__(*raised)

    with mock.patch.object(checkpoint, "_recomputation_hook", Marked):
        yield


def region_of(node: torch.fx.Node) -> int | None:
    """The number of the second pass that computes a node of a trace; None where it is the first."""
    region: int | None = node.meta.get("custom", {}).get(_KEY)
    return region

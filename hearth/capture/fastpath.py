"""PyTorch's shortcut for attention in evaluation mode, which Hearth does not take.

Where `nn.TransformerEncoder` gets a padding mask, the shortcut leaves the padded positions out and
fills them with zeros: other numbers than in training.  What Hearth compiles, and what it compares
with, is the path of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_fastpath() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

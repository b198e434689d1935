"""Where the parameters of one optimizer group lie in its flat vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # elements, 256 bytes: a parameter may be bound on its own by any backend


@dataclass(frozen=True)
class FlatLayout:
    """Element offsets of the members of a flat vector, and its length."""

    offsets: tuple[int, ...]
    length: int


def flat_layout(shapes: Sequence[Sequence[int]]) -> FlatLayout:
    """Lay tensors one after another, each at a multiple of `ALIGNMENT` elements."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(end)
        end += -(-math.prod(shape) // ALIGNMENT) * ALIGNMENT
    return FlatLayout(tuple(offsets), end)

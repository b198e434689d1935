"""Where the parameters of one optimizer group lie in its flat vector, or in several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # elements, 256 bytes: a parameter may be bound on its own by any backend
MOST_ELEMENTS = 1 << 25  # of a vector, 128 MiB: what every WebGPU adapter binds in one piece


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


def vectors_of(shapes: Iterable[Sequence[int]], most: int) -> list[int]:
    """How many of the tensors, in order, each vector takes: as many as `most` elements hold.

    >>> vectors_of([(64,), (64,), (300,), (5,)], most=128)
    [2, 1, 1]
    """
    counts: list[int] = []
    end = most
    for shape in shapes:
        length = flat_layout([shape]).length
        if not counts or end + length > most:
            counts.append(0)
            end = 0
        counts[-1] += 1
        end += length
    return counts

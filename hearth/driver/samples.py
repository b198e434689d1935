"""Random batches that fit a program's inputs: for the golden step, for verification, for timing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.dtypes import NUMPY_DTYPES
from hearth.bundle.manifest import Input

Array = NDArray[Any]


def random_batch(
    inputs: Sequence[Input], batch: int, rng: np.random.Generator, *, positive: bool = False
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """(inputs, targets): normal floats, targets in [0, 1), indices in their range.

    With `positive`, inputs lie in [0, 1), too.
    """
    by_role = {
        role: tuple(_random(entry, batch, rng, positive) for entry in inputs if entry.role == role)
        for role in ("input", "target")
    }
    return by_role["input"], by_role["target"]


def _random(entry: Input, batch: int, rng: np.random.Generator, positive: bool) -> Array:
    shape = tuple(extent.at(batch) for extent in entry.shape)
    dtype = NUMPY_DTYPES[entry.dtype]
    if entry.dtype == "float32":
        # Targets of a loss are often probabilities; inputs are usually standardized.
        is_uniform = positive or entry.role == "target"
        values = rng.random(shape) if is_uniform else rng.normal(size=shape)
        return values.astype(dtype)
    # What indexes has a range; an int32 input without one is most often the bytes of an image.
    unbounded = (0, 256) if (entry.role, entry.dtype) == ("input", "int32") else (0, 2)
    low, high = entry.range or unbounded
    return rng.integers(low, high, shape).astype(dtype)

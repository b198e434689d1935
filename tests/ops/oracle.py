"""What a sample must give: eager PyTorch in float64, on numbers that the target can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from hearth.capture.random import replay_random
from tests.ops.samples.sample import Sample

# Rounding grows with the length of the sums and products of a sample: none has more than 2**10.
ROUNDINGS = 2.0**10


def expected(
    sample: Sample, tensors: list[torch.Tensor], seed: int, step: int
) -> list[torch.Tensor]:
    """The sample's outputs; integers are promoted to float64."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with replay_random(seed, step):
            result = sample.function(*tensors)
    finally:
        torch.set_default_dtype(default)
    return [t.detach() for t in pytree.tree_leaves(result)]


def representable(tensor: torch.Tensor, floats: type[np.floating[Any]]) -> torch.Tensor:
    """Float64 values that a target's floats can hold."""
    if not tensor.is_floating_point():
        return tensor
    return torch.from_numpy(tensor.numpy().astype(floats).astype(np.float64))


def assert_close(ours: Any, want: Any, epsilon: float) -> None:
    """Floats within the roundings of a sample, relative to the tensor's scale; others exactly."""
    assert ours.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(ours, want.astype(ours.dtype))
        return
    finite = np.abs(want[np.isfinite(want)])
    scale = finite.max(initial=0.0)
    tolerance = ROUNDINGS * epsilon
    np.testing.assert_allclose(ours, want, rtol=tolerance, atol=tolerance * scale)

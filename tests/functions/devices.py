"""A function compiled and run on a device, against itself in eager PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import hearth
from hearth.capture.random import replay_random
from hearth.steps.function import Batched, output_names
from tests.ops.oracle import representable

SEED = 0x1234_5678_9ABC_DEF0
COMPILED_AT = 3
BATCHES = (1, 6)

Inputs = Callable[[int], Sequence[torch.Tensor]]


def in_float64(function: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The outputs of the eager function by name, with the random numbers of step 0."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with replay_random(SEED, 0):
            result = function(*tensors)
    finally:
        torch.set_default_dtype(default)
    leaves = [leaf.detach() for leaf in pytree.tree_leaves(result)]
    return dict(zip(output_names(result), leaves, strict=True))


def assert_device_agrees(
    function: Callable[..., Any],
    inputs: Inputs,
    device: str,
    folder: Path,
    *,
    batched: Batched = True,
    tolerance: float = 2.0**-13,
    batches: Sequence[int] = BATCHES,
    model: nn.Module | None = None,
) -> None:
    """Compiled for a batch of three, run at others: integers equal, floats within `tolerance` of
    the scale of their tensor.
    """
    examples = [_narrow(t) for t in inputs(COMPILED_AT)]
    compiled = hearth.compile_function(
        function, examples, batched=batched, model=model, backends=[device]
    )
    compiled.save(folder, runtime=False)
    with hearth.open_runner(folder, device, seed=SEED) as runner:
        for batch in batches:
            tensors = [representable(t, np.float32) for t in inputs(batch)]
            found = runner.run("run", [_narrow(t).numpy() for t in tensors])
            wanted = _eager(function, tensors, model)
            assert list(found) == list(wanted)
            for name, want in wanted.items():
                _assert_close(found[name], want.numpy(), tolerance, f"{name} at B = {batch}")


def _eager(
    function: Callable[..., Any], tensors: Sequence[torch.Tensor], model: nn.Module | None
) -> dict[str, Any]:
    if model is None:
        return in_float64(function, tensors)
    model.double()
    try:
        return in_float64(function, tensors)
    finally:
        model.float()


def _assert_close(ours: Any, want: Any, tolerance: float, what: str) -> None:
    assert ours.shape == want.shape, what
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(ours, want.astype(ours.dtype), what)
        return
    scale = np.abs(want[np.isfinite(want)]).max(initial=0.0)
    np.testing.assert_allclose(ours, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def _narrow(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor

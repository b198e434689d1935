"""The golden step: one batch as PyTorch computes it in float64, for devices to prove themselves.

The batch is random: a person's examples never leave with the bundle.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from hearth.bundle.manifest import Accuracy, Golden, Input
from hearth.bundle.safetensors import encode_safetensors
from hearth.driver.oracle import Oracle
from hearth.driver.samples import random_batch
from hearth.steps.train_step import TrainStep

Array = NDArray[Any]
Arrays = Sequence[Array]

GOLDEN_FILE: Final = "golden.safetensors"
GOLDEN_BATCH: Final = 4
GOLDEN_SEED: Final = 20
MAX_ELEMENTS: Final = 4096

# What readers take for the errors of a device's own kernels (spec/manifest.md, "Golden step").
SLACK: Final[dict[Accuracy, float]] = {"fast": 1e-5, "strict": 1e-6}
DRAWS: Final = 3  # of parameters that are moved by as much
MARGIN: Final = 4.0  # a device may be off by so many times what float32 and they show
LOOSEST: Final = 0.1  # relative to the largest element: more would prove nothing
# How far a device may be off, relative to the largest element of a tensor.
FLOAT32: Final = 1e-3
# The same: halves round by 2**-11 and 2**-8 of their size; several roundings meet in one value.
HALVES: Final = {"float16": 0.02, "bfloat16": 0.1}


def golden_step(
    step: TrainStep, inputs: Sequence[Input], trained: Sequence[str], accuracy: Accuracy
) -> tuple[Golden, bytes] | None:
    """The recorded step, with the parameters that receive gradients, and its description.

    What rounding moves far has a tolerance of its own, or is left out.  None, with a warning, where
    no random batch gives a finite loss.
    """
    # Some losses are only defined for positive inputs, and what is augmented is mostly images.
    for positive in (True,) if step.augmentation else (False, True):
        rng = np.random.default_rng(GOLDEN_SEED)
        given, wanted = random_batch(inputs, GOLDEN_BATCH, rng, positive=positive)
        exact = _recorded(step, torch.float64, given, wanted, trained)
        if np.isfinite(exact["loss"]):
            break
    else:
        warnings.warn(
            "the loss of a random batch is not finite: no golden step is recorded, and a device "
            "that computes wrong numbers will not be noticed",
            stacklevel=3,
        )
        return None
    own = HALVES.get(step.precision)
    tolerance = own or FLOAT32
    rounded = [
        _recorded(step, torch.float32, given, wanted, trained, move)
        for move in (None, *[_moved_by(SLACK[accuracy], rng)] * DRAWS)
    ]
    needed = {
        name: needed_tolerance(value, [r[name] for r in rounded], tolerance)
        for name, value in exact.items()
    }
    tensors: dict[str, Array] = {f"input/{i}": x for i, x in enumerate(given)}
    tensors |= {f"target/{i}": y for i, y in enumerate(wanted)}
    tensors |= {n: sampled(v) for n, v in exact.items() if needed[n] is not None}
    wider = {n: float(f"{t:.2g}") for n, t in needed.items() if t and t > tolerance}
    golden = Golden(GOLDEN_FILE, GOLDEN_BATCH, GOLDEN_SEED, own, wider or None)
    return golden, encode_safetensors(tensors)


def _recorded(
    step: TrainStep, dtype: torch.dtype, inputs: Arrays, targets: Arrays, trained: Sequence[str],
    move: Callable[[Array], Array] | None = None,
) -> dict[str, Array]:  # fmt: skip
    """Loss, gradients and parameters after one step, perhaps from parameters moved a little."""
    oracle = Oracle(step, dtype)
    if move is not None:
        start = oracle.weights
        oracle.load_state(start | {name: move(start[name]) for name in trained})
    step_result = oracle.train(inputs, targets, GOLDEN_SEED)
    after = oracle.weights
    gradients = {f"gradient/{name}": step_result.gradients[name] for name in trained}
    return {
        "loss": step_result.loss,
        **gradients,
        **{f"parameter/{name}": after[name] for name in trained},
    }


def _moved_by(amount: float, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Every element times 1 ± up to `amount`: zeros stay, and so does the sign."""
    return lambda x: (x * (1 + amount * rng.uniform(-1, 1, x.shape))).astype(x.dtype)


def needed_tolerance(
    exact: Array, rounded: Sequence[Array], tolerance: float = FLOAT32
) -> float | None:
    """How far a right device may be off, relative to the largest element; None for beyond limits.

    `rounded` is what float32 makes of the value, also from parameters moved a little.  The bias of
    a convolution before a BatchNorm has the gradient 0 and gets rounding errors, which Adam divides
    by their own size.  In a deep network some activation is always next to a kink, and the side it
    falls on changes the gradients of all layers before it.
    """
    largest = float(np.abs(exact).max(initial=0.0))
    needed = MARGIN * float(np.abs(np.stack(rounded) - exact).max(initial=0.0))
    if needed <= tolerance * largest + SLACK["strict"]:
        return tolerance
    return needed / largest if needed <= LOOSEST * largest else None


def sampled(array: Array) -> Array:
    """At most `MAX_ELEMENTS` evenly spaced elements, as float32."""
    flat = np.asarray(array, np.float32)
    if flat.size <= MAX_ELEMENTS:
        return flat
    return np.ascontiguousarray(flat.ravel()[:: -(-flat.size // MAX_ELEMENTS)])

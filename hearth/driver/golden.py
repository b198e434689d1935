"""The golden step: one batch as PyTorch computes it in float64, for devices to prove themselves.

The batch is random: a person's examples never leave with the bundle.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from hearth.bundle.manifest import Golden, Input
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


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a device may be off, and which share of it PyTorch's own rounding may take."""

    relative: float  # to the largest element of a tensor
    share: float


FLOAT32: Final = Tolerance(1e-3, 0.01)
# Halves round by 2**-11 and 2**-8 of their size; several roundings meet in one value.
HALVES: Final = {"float16": Tolerance(0.02, 0.25), "bfloat16": Tolerance(0.1, 0.25)}


def golden_step(
    step: TrainStep, inputs: Sequence[Input], trained: Sequence[str]
) -> tuple[Golden, bytes] | None:
    """The recorded step, with the parameters that receive gradients, and its description.

    None, with a warning, where no random batch gives a finite loss.
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
    rounded = _recorded(step, torch.float32, given, wanted, trained)
    tensors: dict[str, Array] = {f"input/{i}": x for i, x in enumerate(given)}
    tensors |= {f"target/{i}": y for i, y in enumerate(wanted)}
    tolerance = HALVES.get(step.precision, FLOAT32)
    tensors |= {n: sampled(v) for n, v in exact.items() if is_determined(v, rounded[n], tolerance)}
    own = tolerance.relative if tolerance is not FLOAT32 else None
    return Golden(GOLDEN_FILE, GOLDEN_BATCH, GOLDEN_SEED, own), encode_safetensors(tensors)


def _recorded(
    step: TrainStep, dtype: torch.dtype, inputs: Arrays, targets: Arrays, trained: Sequence[str]
) -> dict[str, Array]:
    oracle = Oracle(step, dtype)
    step_result = oracle.train(inputs, targets, GOLDEN_SEED)
    after = oracle.weights
    gradients = {f"gradient/{name}": step_result.gradients[name] for name in trained}
    return {
        "loss": step_result.loss,
        **gradients,
        **{f"parameter/{name}": after[name] for name in trained},
    }


def is_determined(exact: Array, rounded: Array, tolerance: Tolerance = FLOAT32) -> bool:
    """Whether rounding leaves a value well within what readers tolerate (spec/manifest.md).

    The bias of a convolution before a BatchNorm has the gradient 0 and gets rounding errors; Adam
    divides them by their own size, so after one step the bias is different on every device.
    """
    largest = np.abs(exact).max(initial=0.0)
    allowed = (tolerance.relative * largest + 1e-6) * tolerance.share
    return bool((np.abs(exact - rounded) <= allowed).all())


def sampled(array: Array) -> Array:
    """At most `MAX_ELEMENTS` evenly spaced elements, as float32."""
    flat = np.asarray(array, np.float32)
    if flat.size <= MAX_ELEMENTS:
        return flat
    return np.ascontiguousarray(flat.ravel()[:: -(-flat.size // MAX_ELEMENTS)])

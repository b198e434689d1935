"""The golden step: one batch as PyTorch computes it in float64, for devices to prove themselves.

The batch is random: a person's examples never leave with the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

GOLDEN_FILE: Final = "golden.safetensors"
GOLDEN_BATCH: Final = 4
GOLDEN_SEED: Final = 20
MAX_ELEMENTS: Final = 4096


def golden_step(
    step: TrainStep, inputs: Sequence[Input], trained: Iterable[str]
) -> tuple[Golden, bytes]:
    """The recorded step, with the parameters that receive gradients, and its description."""
    given, wanted = random_batch(inputs, GOLDEN_BATCH, np.random.default_rng(GOLDEN_SEED))
    oracle = Oracle(step, torch.float64)
    before = oracle.gradients(given, wanted, GOLDEN_SEED)
    oracle.train(given, wanted, GOLDEN_SEED)
    after = oracle.weights
    tensors: dict[str, Array] = {f"input/{i}": x for i, x in enumerate(given)}
    tensors |= {f"target/{i}": y for i, y in enumerate(wanted)}
    tensors["loss"] = np.asarray(before.loss, np.float32)
    for name in trained:
        tensors[f"gradient/{name}"] = sampled(before.gradients[name])
        tensors[f"parameter/{name}"] = sampled(after[name])
    return Golden(GOLDEN_FILE, GOLDEN_BATCH, GOLDEN_SEED), encode_safetensors(tensors)


def sampled(array: Array) -> Array:
    """At most `MAX_ELEMENTS` evenly spaced elements, as float32."""
    flat = np.asarray(array, np.float32)
    if flat.size <= MAX_ELEMENTS:
        return flat
    return np.ascontiguousarray(flat.ravel()[:: -(-flat.size // MAX_ELEMENTS)])

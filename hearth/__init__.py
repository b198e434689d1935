"""Hearth compiles the training step of a PyTorch model into a browser bundle.

The public names are loaded when they are first used: `hearth serve` and the runtimes must not pay
for an import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hearth.errors import (
    BackendError,
    BundleFormatError,
    CaptureError,
    DeviceLostError,
    HearthError,
    InternalError,
    InvalidInputError,
    NumericalInstabilityError,
    OutOfMemoryError,
    StorageError,
    UnsupportableError,
    UnsupportedOpError,
)

__version__ = "0.1.0"

_HOMES = {
    "TrainStep": "hearth.steps.train_step",
    "check": "hearth.driver.check",
    "compile_function": "hearth.driver.compile",
    "open_runner": "hearth.driver.runners",
    "verify": "hearth.driver.verify",
    "load_checkpoint": "hearth.weights_io",
    "load_weights": "hearth.weights_io",
    "save_checkpoint": "hearth.weights_io",
    "save_weights": "hearth.weights_io",
}

__all__ = [
    "BackendError",
    "BundleFormatError",
    "CaptureError",
    "DeviceLostError",
    "HearthError",
    "InternalError",
    "InvalidInputError",
    "NumericalInstabilityError",
    "OutOfMemoryError",
    "StorageError",
    "UnsupportableError",
    "UnsupportedOpError",
    "compile",
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    if name == "compile":  # the module must not shadow the built-in for itself
        return import_module("hearth.driver.compile").compile_step
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hearth' has no attribute {name!r}")
    return getattr(import_module(home), name)

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
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hearth' has no attribute {name!r}")
    return getattr(import_module(home), name)

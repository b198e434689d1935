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
    "Function": "hearth.steps.function",
    "Schedule": "hearth.steps.schedule",
    "Taps": "hearth.steps.taps",
    "TrainStep": "hearth.steps.train_step",
    "apply_delta": "hearth.weights_io",
    "check": "hearth.driver.check",
    "compile": "hearth.driver.compile",
    "compile_function": "hearth.driver.compile",
    "compile_functions": "hearth.driver.compile",
    "export_onnx": "hearth.deploy.onnx_file",
    "explain": "hearth.steps.explain",
    "load_checkpoint": "hearth.weights_io",
    "load_weights": "hearth.weights_io",
    "open_runner": "hearth.driver.runners",
    "save_checkpoint": "hearth.weights_io",
    "save_delta": "hearth.weights_io",
    "save_weights": "hearth.weights_io",
    "verify": "hearth.driver.verify",
}
# Inside its module a function called `compile` would hide the built-in one.
_NAMES_AT_HOME = {"compile": "compile_step"}

__all__ = [
    "BackendError",
    "BundleFormatError",
    "CaptureError",
    "DeviceLostError",
    "Function",
    "HearthError",
    "InternalError",
    "InvalidInputError",
    "NumericalInstabilityError",
    "OutOfMemoryError",
    "Schedule",
    "StorageError",
    "Taps",
    "TrainStep",
    "UnsupportableError",
    "UnsupportedOpError",
    "apply_delta",
    "check",
    "compile",
    "compile_function",
    "compile_functions",
    "explain",
    "export_onnx",
    "load_checkpoint",
    "load_weights",
    "open_runner",
    "save_checkpoint",
    "save_delta",
    "save_weights",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hearth' has no attribute {name!r}")
    return getattr(import_module(home), _NAMES_AT_HOME.get(name, name))

"""Weights and checkpoints as PyTorch knows them: `state_dict`s of tensors.

The files are read and written by `hearth/bundle`, which knows no torch; here arrays become
tensors, and the optimizer's state takes the form that `torch.optim` loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hearth.bundle import manifest
from hearth.bundle.checkpoint import FORMAT as CHECKPOINT_FORMAT
from hearth.bundle.checkpoint import Checkpoint, Scaler, decode_checkpoint, encode_checkpoint
from hearth.bundle.delta import apply_delta as apply_delta_file
from hearth.bundle.delta import encode_delta
from hearth.bundle.files import read_file, write_file
from hearth.bundle.manifest import Optimizer
from hearth.bundle.quantized import Precision, encode_stored_weights, plain_weights
from hearth.bundle.safetensors import decode_safetensors
from hearth.bundle.weights import Weight, decode_weights, is_json
from hearth.errors import InvalidInputError
from hearth.steps.mixed import LossScaling
from hearth.steps.optimizer_state import (
    describe_optimizer,
    from_torch_optimizer,
    to_torch_state_dict,
)

Array = NDArray[Any]
StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TorchCheckpoint:
    """A run that continues in PyTorch.

    `model` and `optimizer` are for `load_state_dict`; the optimizer must have the same parameter
    groups, in the same order, as the one that was compiled.  `scaler` is for a
    `torch.amp.GradScaler`; None where the run has none.
    """

    model: StateDict
    optimizer: dict[str, Any]
    step: int
    seed: int
    scaler: dict[str, Any] | None = None


def load_weights(
    path: str | Path,
    *,
    like: Mapping[str, torch.Tensor] | None = None,
    names: Mapping[str, str] | None = None,
) -> StateDict:
    """The weights in a file, for `model.load_state_dict`.

    Args:
        path: a safetensors file, in any precision that `save_weights` writes, or the JSON form.
        like: the model's `state_dict()`; names, shapes and dtypes are then checked against it.
            The JSON form needs it, because `fc1_weight` may be `fc1.weight` or `fc1_weight`.
        names: keys of the file to state_dict keys, where they differ.

    Raises:
        BundleFormatError: an ambiguous, missing, surplus or wrongly sized key, by name.
        StorageError: the file cannot be read.
    """
    data = read_file(path)
    if like is not None:
        wanted = [_weight(name, tensor) for name, tensor in like.items()]
        return _tensors(decode_weights(wanted, data, str(path), names))
    if is_json(data):
        raise InvalidInputError(
            f"{path} holds weights as JSON, whose keys do not tell dots from underscores",
            remedy="hearth.load_weights(path, like=model.state_dict())",
        )
    renamed = names or {}
    tensors = plain_weights(decode_safetensors(data, str(path)), str(path))
    return _tensors({renamed.get(name, name): array for name, array in tensors.items()})


def save_weights(
    state_dict: Mapping[str, torch.Tensor], path: str | Path, *, precision: Precision = "float32"
) -> None:
    """Writes weights as safetensors; `load_weights` and the browser's `loadWeights` take the file.

    Args:
        state_dict: float32 weights, and whatever else the model keeps.
        path: of the file.
        precision: "float16" halves the file; "int8" quarters it, with a scale for each output
            channel of every tensor of two or more dimensions.  Readers give float32 back.

    Raises:
        InvalidInputError: a tensor that the precision cannot hold, by name.
    """
    arrays = {name: _array(t) for name, t in state_dict.items()}
    write_file(path, encode_stored_weights(arrays, precision))


def save_delta(before: str | Path, after: str | Path, path: str | Path) -> None:
    """Writes the difference of the weights in two files, or checkpoints, as safetensors.

    Raises:
        InvalidInputError: the files hold other names, shapes or dtypes.
    """
    write_file(path, encode_delta(_model_arrays(before), _model_arrays(after)))


def apply_delta(
    state_dict: Mapping[str, torch.Tensor], path: str | Path, *, scale: float = 1.0
) -> StateDict:
    """`state_dict + scale · difference`, for `model.load_state_dict`; see `save_delta`.

    Raises:
        BundleFormatError: the difference is from other weights than these.
    """
    base = {name: _array(t) for name, t in state_dict.items()}
    return _tensors(apply_delta_file(base, read_file(path), str(path), scale))


def load_checkpoint(path: str | Path) -> TorchCheckpoint:
    """A run that a browser (or `save_checkpoint`) saved.

    Training goes on exactly where it stopped:

        checkpoint = hearth.load_checkpoint("run.safetensors")
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
    """
    found = decode_checkpoint(read_file(path), str(path))
    description = found.description.to_json()
    optimizer = to_torch_state_dict(description, _tensors(found.optimizer), found.step)
    scaler = _scaling(found.scaler).to_torch_state_dict() if found.scaler else None
    return TorchCheckpoint(_tensors(found.model), optimizer, found.step, found.seed, scaler)


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int | None = None,
    seed: int = 0,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Writes a run of PyTorch as a checkpoint that the browser continues.

    Args:
        step: completed training steps; by default what the optimizer counts (Adam and its kin).
        seed: the seed of Dropout and its like in the browser.
        scaler: of a run in mixed precision.

    Raises:
        InvalidInputError: the run has not begun, so there is no optimizer state to save.
    """
    named: dict[torch.Tensor, str] = {p: name for name, p in model.named_parameters()}
    tensors, counted = from_torch_optimizer(optimizer, named)
    done = counted if step is None else step
    if done < 1:
        raise InvalidInputError(
            "the optimizer has not taken a step, so it has no state yet",
            remedy="hearth.save_weights(model.state_dict(), path); a plain SGD counts no steps: "
            "give step=",
        )
    description = Optimizer.from_json(describe_optimizer(optimizer, named))
    arrays = {name: _array(tensor.float()) for name, tensor in tensors.items()}
    weights = {name: _array(tensor) for name, tensor in model.state_dict().items()}
    scaling = _scaler(scaler, done) if scaler is not None else None
    checkpoint = Checkpoint(weights, arrays, description, done, seed, scaling)
    write_file(path, encode_checkpoint(checkpoint))


def _scaler(scaler: torch.amp.GradScaler, done: int) -> Scaler | None:
    found = LossScaling.of(scaler)
    if found is None:
        return None
    constants = manifest.LossScaling(
        found.growth_factor, found.backoff_factor, found.growth_interval
    )
    return Scaler(found.scale, found.growth_tracker, done, constants)


def _scaling(scaler: Scaler) -> LossScaling:
    c = scaler.constants
    return LossScaling(
        scaler.scale, c.growth_factor, c.backoff_factor, c.growth_interval, scaler.growth_tracker
    )


def _model_arrays(path: str | Path) -> dict[str, Array]:
    """The weights of a file that may be a checkpoint."""
    data = read_file(path)
    file = decode_safetensors(data, str(path))
    if file.metadata.get("format") == CHECKPOINT_FORMAT:
        return decode_checkpoint(data, str(path)).model
    return plain_weights(file, str(path))


def _weight(name: str, tensor: torch.Tensor) -> Weight:
    dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    # A tensor on `meta` has no memory; another stride makes other numbers of the same memory.
    place = tensor.data_ptr() if tensor.is_contiguous() else 0
    return Weight(name, dtype, tuple(tensor.shape), place or None)


def _tensors(arrays: Mapping[str, Array]) -> StateDict:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().contiguous().numpy()
    return array

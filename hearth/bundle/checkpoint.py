"""A training run in one file: weights, optimizer state, step and seed.

Parameters and buffers keep their state_dict names, so every reader of safetensors finds the
weights; what else a run needs lies beside them under `optimizer/` and `hearth/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.manifest import LossScaling, Manifest, Optimizer, State
from hearth.bundle.safetensors import TensorFile, decode_safetensors, encode_safetensors
from hearth.bundle.weights import match_weights, weights_of
from hearth.errors import BundleFormatError

Array = NDArray[Any]

FORMAT = "hearth-checkpoint"
VERSION = 1
_OPTIMIZER, _STEP, _SEED = "optimizer/", "hearth/step", "hearth/seed"
_SCALE, _TRACKER, _UPDATES = "hearth/loss_scale", "hearth/growth_tracker", "hearth/updates"


@dataclass(frozen=True, slots=True)
class Scaler:
    """Where loss scaling stands, and its constants; `updates` are the steps not left out."""

    scale: float
    growth_tracker: int
    updates: int
    constants: LossScaling


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`optimizer` maps `KEY/PARAMETER` to arrays; `description` has the current learning rates."""

    model: dict[str, Array]
    optimizer: dict[str, Array]
    description: Optimizer
    step: int
    seed: int
    scaler: Scaler | None = None


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint file."""
    words = [checkpoint.seed & 0xFFFFFFFF, checkpoint.seed >> 32]
    tensors = {
        **checkpoint.model,
        **{_OPTIMIZER + name: array for name, array in checkpoint.optimizer.items()},
        _STEP: np.array(checkpoint.step, np.int64),
        _SEED: np.array(words, np.int64),
    }
    description = _json(checkpoint.description.to_json())
    metadata = {"format": FORMAT, "version": str(VERSION), "optimizer": description}
    if checkpoint.scaler:
        tensors.update(_scaler_arrays(checkpoint.scaler))
        metadata["loss_scaling"] = _json(checkpoint.scaler.constants.to_json())
    return encode_safetensors(tensors, metadata)


def decode_checkpoint(data: bytes, source: str = "checkpoint") -> Checkpoint:
    """The checkpoint in a file's bytes; raises `BundleFormatError` for anything else."""
    file = decode_safetensors(data, source)
    _check_version(file.metadata, source)
    step, seed = _integers(file, _STEP, 1, source), _integers(file, _SEED, 2, source)
    if not all(0 <= word < 2**32 for word in seed):
        raise BundleFormatError(f"{source}: {_SEED} must be two words of 32 bits")
    start = len(_OPTIMIZER)
    reserved = (_OPTIMIZER, "hearth/")
    return Checkpoint(
        model={n: a for n, a in file.tensors.items() if not n.startswith(reserved)},
        optimizer={n[start:]: a for n, a in file.tensors.items() if n.startswith(_OPTIMIZER)},
        description=_description(file.metadata, source),
        step=step[0],
        seed=seed[0] | seed[1] << 32,
        scaler=_scaler(file, source),
    )


def checkpoint_of(
    manifest: Manifest, state: Mapping[str, Array], learning_rate: Sequence[float]
) -> Checkpoint:
    """The checkpoint of a run whose state a runner exported."""
    if manifest.optimizer is None:
        raise BundleFormatError("this bundle has no optimizer, so there is no run to save")
    pairs = zip(manifest.optimizer.groups, learning_rate, strict=True)
    groups = tuple(replace(group, learning_rate=float(rate)) for group, rate in pairs)
    seed = state[_one(manifest, "seed").name].reshape(-1)
    return Checkpoint(
        model={s.name: state[s.name] for s in manifest.weights},
        optimizer={s.name: state[s.name] for s in manifest.state if s.role == "optimizer"},
        description=replace(manifest.optimizer, groups=groups),
        step=int(state[_one(manifest, "step").name].reshape(-1)[0]),
        seed=int(seed[0]) | int(seed[1]) << 32,
        scaler=_scaler_of(manifest, state),
    )


def state_of(manifest: Manifest, checkpoint: Checkpoint) -> dict[str, Array]:
    """What a runner loads to continue the run; checked against the manifest.

    The learning rates are in `checkpoint.description`; they are inputs, not state.
    """
    if manifest.optimizer is None or not _same_optimizer(
        manifest.optimizer, checkpoint.description
    ):
        raise BundleFormatError("the checkpoint was made with another optimizer")
    optimizer = tuple(s for s in manifest.state if s.role == "optimizer")
    as_weights = tuple(replace(s, role="parameter") for s in optimizer)
    step, seed = _one(manifest, "step"), _one(manifest, "seed")
    words = np.array([checkpoint.seed & 0xFFFFFFFF, checkpoint.seed >> 32], np.uint32)
    return {
        **match_weights(weights_of(manifest.state), checkpoint.model, "checkpoint"),
        **match_weights(weights_of(as_weights), checkpoint.optimizer, "checkpoint optimizer"),
        step.name: np.array(checkpoint.step, np.int32).reshape(step.shape),
        seed.name: words.reshape(seed.shape),
        **(_scaler_state(checkpoint) if manifest.loss_scaling else {}),
    }


def _scaler_arrays(scaler: Scaler) -> dict[str, Array]:
    return {
        _SCALE: np.array(scaler.scale, np.float32),
        _TRACKER: np.array(scaler.growth_tracker, np.int32),
        _UPDATES: np.array(scaler.updates, np.int32),
    }


def _scaler_of(manifest: Manifest, state: Mapping[str, Array]) -> Scaler | None:
    if manifest.loss_scaling is None:
        return None
    scale, tracker, updates = (state[n].item() for n in (_SCALE, _TRACKER, _UPDATES))
    return Scaler(float(scale), int(tracker), int(updates), manifest.loss_scaling)


def _scaler_state(checkpoint: Checkpoint) -> dict[str, Array]:
    """What continues the scaling; a run that had none starts it as the bundle does."""
    if checkpoint.scaler:
        return _scaler_arrays(checkpoint.scaler)
    return {_UPDATES: np.array(checkpoint.step, np.int32)}


def _scaler(file: TensorFile, source: str) -> Scaler | None:
    if "loss_scaling" not in file.metadata:
        return None
    kinds = {_SCALE: np.float32, _TRACKER: np.int32, _UPDATES: np.int32}
    for name, kind in kinds.items():
        array = file.tensors.get(name)
        if array is None or array.dtype != kind or array.size != 1:
            raise BundleFormatError(f"{source}: {name} must hold one {np.dtype(kind)}")
    scale, tracker, updates = (file.tensors[name].item() for name in kinds)
    if not 0 < scale < np.inf:
        raise BundleFormatError(f"{source}: {_SCALE} is {scale}, not a positive number")
    constants = LossScaling.from_json(
        _object(file.metadata, "loss_scaling", source), f"{source}: loss_scaling"
    )
    return Scaler(float(scale), int(tracker), int(updates), constants)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _same_optimizer(ours: Optimizer, theirs: Optimizer) -> bool:
    return ours.class_ == theirs.class_ and (
        [set(g.parameters) for g in ours.groups] == [set(g.parameters) for g in theirs.groups]
    )


def _one(manifest: Manifest, role: str) -> State:
    found = [s for s in manifest.state if s.role == role]
    if len(found) != 1:
        raise BundleFormatError(f"the manifest has {len(found)} state entries of role {role!r}")
    return found[0]


def _check_version(metadata: Mapping[str, str], source: str) -> None:
    if metadata.get("format") != FORMAT:
        raise BundleFormatError(
            f"{source} is not a Hearth checkpoint",
            remedy="plain weights are read with hearth.load_weights",
        )
    version = metadata.get("version", "")
    if not version.isascii() or not version.isdigit() or int(version) < 1:
        raise BundleFormatError(f"{source} has the checkpoint version {version!r}")
    if int(version) > VERSION:
        raise BundleFormatError(
            f"{source} has checkpoint version {version}, this Hearth reads up to {VERSION}",
            remedy="update Hearth",
        )


def _integers(file: TensorFile, name: str, count: int, source: str) -> list[int]:
    array = file.tensors.get(name)
    if array is None or array.dtype != np.int64 or array.size != count:
        raise BundleFormatError(f"{source}: {name} must hold {count} int64")
    return [int(v) for v in array.reshape(-1)]


def _description(metadata: Mapping[str, str], source: str) -> Optimizer:
    return Optimizer.from_json(_object(metadata, "optimizer", source), f"{source}: optimizer")


def _object(metadata: Mapping[str, str], name: str, source: str) -> object:
    try:
        value: object = json.loads(metadata.get(name, ""))
    except (ValueError, RecursionError) as error:
        raise BundleFormatError(
            f"{source}: the metadata entry {name!r} is not JSON", why=str(error)
        ) from error
    return value

"""The difference of two sets of weights in one file: what a client of federated learning sends.

Every tensor is `after - before` under its state_dict name, floats as float32, whole numbers
(BatchNorm's counters) as int64.  The metadata name the weights that the difference is from by their
SHA-256, so that it cannot be added to others by mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.safetensors import decode_safetensors, encode_safetensors
from hearth.errors import BundleFormatError, InvalidInputError

Array = NDArray[Any]

FORMAT: Final = "hearth-delta"
VERSION: Final = "1"


def encode_delta(before: Mapping[str, Array], after: Mapping[str, Array]) -> bytes:
    """The file of `after - before`; raises `InvalidInputError` where names or shapes differ."""
    _check_alike(before, after)
    tensors = {name: _difference(name, before[name], after[name]) for name in before}
    metadata = {"format": FORMAT, "version": VERSION, "base": fingerprint(before)}
    return encode_safetensors(tensors, metadata)


def apply_delta(
    base: Mapping[str, Array], data: bytes, source: str = "delta", scale: float = 1.0
) -> dict[str, Array]:
    """`base + scale · delta`, each tensor in the dtype of `base`.

    With `scale` 1 these are the weights that the file was made from, up to two roundings.
    Raises `BundleFormatError` for another file, and for other base weights.
    """
    file = decode_safetensors(data, source)
    if file.metadata.get("format") != FORMAT:
        raise BundleFormatError(f"{source} is not a difference of weights")
    if file.metadata.get("version") != VERSION:
        raise BundleFormatError(
            f"{source} has version {file.metadata.get('version')!r}, this Hearth reads {VERSION}",
            remedy="update Hearth",
        )
    if file.metadata.get("base") != fingerprint(base):
        raise BundleFormatError(
            f"{source} is a difference from other weights",
            why="their SHA-256 is not the one that the file names",
            remedy="add it to the weights that its training began with",
        )
    return {name: _add(array, file.tensors[name], scale) for name, array in base.items()}


def fingerprint(weights: Mapping[str, Array]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = weights[name]
        shape = ",".join(map(str, array.shape))
        digest.update(f"{name}\0{array.dtype.name}\0{shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _difference(name: str, before: Array, after: Array) -> Array:
    if before.dtype.kind != "f":
        return after.astype(np.int64) - before.astype(np.int64)
    difference: Array = after - before
    if not np.isfinite(difference).all():
        raise InvalidInputError(
            f"the difference of {name} is not finite",
            remedy="send weights of a step whose loss was finite",
        )
    return difference.astype(np.float32)


def _add(base: Array, difference: Array, scale: float) -> Array:
    change = scale * difference if base.dtype.kind == "f" else np.rint(scale * difference)
    return np.asarray(base + change, base.dtype)  # an array also where there is one number


def _check_alike(before: Mapping[str, Array], after: Mapping[str, Array]) -> None:
    for name in [*before, *after]:
        if name not in before or name not in after:
            side = "before" if name in before else "after"
            raise InvalidInputError(f"only the weights {side} have {name!r}")
        if before[name].shape != after[name].shape or before[name].dtype != after[name].dtype:
            raise InvalidInputError(
                f"{name!r} is {before[name].dtype} {list(before[name].shape)} before and "
                f"{after[name].dtype} {list(after[name].shape)} after"
            )

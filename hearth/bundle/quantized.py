"""Weights in fewer bytes: float16, or int8 with one scale per channel.

A stored file is a safetensors file whose metadata say `{"format": "hearth-weights", "precision":
…}`.  In int8 each float tensor of two or more dimensions is whole numbers in [-127, 127] under its
own name, and a float32 scale for each index of dimension 0 under `hearth/scale/NAME`; the value is
their product (symmetric, weight-only).  Vectors stay as they are: biases and norms are few and
matter.  Readers give float32 back, so nothing else need know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.safetensors import TensorFile, encode_safetensors
from hearth.errors import BundleFormatError, InvalidInputError

Array = NDArray[Any]
Precision = Literal["float32", "float16", "int8"]

PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
FORMAT: Final = "hearth-weights"
_SCALE: Final = "hearth/scale/"
_LARGEST: Final = 127  # -128 is left out: the codes are symmetric


def encode_stored_weights(weights: Mapping[str, Array], precision: Precision) -> bytes:
    """A weight file in the precision given; plain safetensors for "float32".

    Raises `InvalidInputError` for a precision that does not exist, and for a tensor that has none:
    one with values that are not finite, or beyond ±65504 in float16.
    """
    if precision not in PRECISIONS:
        raise InvalidInputError(
            f"there is no precision {precision!r}", remedy=f"choose from {', '.join(PRECISIONS)}"
        )
    if precision == "float32":
        return encode_safetensors(weights)
    stored: dict[str, Array] = {}
    for name, array in weights.items():
        if array.dtype != np.float32:
            stored[name] = array
        elif precision == "float16":
            stored[name] = _half(name, array)
        elif array.ndim < 2:
            stored[name] = array
        else:
            stored[name], stored[_SCALE + name] = quantize(array, name)
    return encode_safetensors(stored, {"format": FORMAT, "precision": precision})


def quantize(array: Array, name: str = "tensor") -> tuple[Array, Array]:
    """int8 codes of the array's shape, and a float32 scale for each index of dimension 0.

    Jacob et al. 2018 (arXiv:1712.05877), eq. 1, with zero point 0; ties go to the even number.
    A channel of zeros has the scale 1.
    """
    if not np.isfinite(array).all():
        raise InvalidInputError(
            f"{name} holds values that are not finite",
            why="a scale is the largest of them by 127",
            remedy="export weights of a step whose loss was finite",
        )
    rows = array.reshape(len(array), -1)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scale = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    # A scale that underflowed leaves nothing to divide by.
    scale[scale == 0] = np.finfo(np.float32).tiny
    codes = np.clip(np.rint(rows / scale[:, None]), -_LARGEST, _LARGEST)
    return codes.astype(np.int8).reshape(array.shape), scale


def dequantize(codes: Array, scale: Array) -> Array:
    """The float32 values of codes, with a scale for each index of dimension 0."""
    by_row = scale.reshape(-1, *(1,) * (codes.ndim - 1))
    values: Array = codes.astype(np.float32) * by_row
    return values


def plain_weights(file: TensorFile, source: str = "weights") -> dict[str, Array]:
    """The float32 weights of a stored file; those of any other file as they are."""
    if file.metadata.get("format") != FORMAT:
        return file.tensors
    precision = file.metadata.get("precision")
    if precision not in PRECISIONS:
        raise BundleFormatError(
            f"{source} holds weights as {precision!r}",
            why=f"this Hearth reads {', '.join(PRECISIONS)}",
            remedy="update Hearth",
        )
    scales = {n: a for n, a in file.tensors.items() if n.startswith(_SCALE)}
    plain: dict[str, Array] = {}
    for name, array in file.tensors.items():
        if name.startswith(_SCALE):
            continue
        scale = scales.pop(_SCALE + name, None)
        if scale is not None:
            plain[name] = _dequantize_checked(name, array, scale, source)
        else:
            plain[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    if scales:
        raise BundleFormatError(f"{source}: {next(iter(scales))!r} is the scale of no tensor")
    return plain


def _dequantize_checked(name: str, codes: Array, scale: Array, source: str) -> Array:
    if codes.dtype != np.int8 or codes.ndim < 1 or scale.dtype != np.float32:
        raise BundleFormatError(f"{source}: {name!r} and its scale must be int8 and float32")
    if scale.shape != codes.shape[:1]:
        raise BundleFormatError(
            f"{source}: {name!r} has {codes.shape[0]} channels, its scale {list(scale.shape)}"
        )
    return dequantize(codes, scale)


def _half(name: str, array: Array) -> Array:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        index = int(np.flatnonzero(~np.isfinite(half))[0])
        raise InvalidInputError(
            f"{name} holds {array.reshape(-1)[index]}, which float16 cannot express",
            why="its largest number is 65504",
            remedy="export int8 or float32",
        )
    return half

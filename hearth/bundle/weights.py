"""Weights by their state_dict names: the safetensors form and the JSON form.

`weights.safetensors` holds parameters and persistent buffers in the order of the manifest's state.
The JSON form (spec/manifest.md, "JSON weights") flattens each tensor and writes `fc1_weight` for
`fc1.weight`; when that would make two names equal, all keys keep their dots.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.dtypes import NUMPY_DTYPES
from hearth.bundle.manifest import State
from hearth.bundle.quantized import plain_weights
from hearth.bundle.safetensors import decode_safetensors, encode_safetensors
from hearth.errors import BundleFormatError

Array = NDArray[Any]

_JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "f": (int, float),
    "i": (int,),
    "u": (int,),
    "b": (bool,),
}


@dataclass(frozen=True, slots=True)
class Weight:
    """What a file must hold for one name; tied weights are at the same `place` in memory."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    place: int | None = None


def weights_of(state: Iterable[State]) -> tuple[Weight, ...]:
    """The entries of `weights.safetensors`, in order."""
    return tuple(
        Weight(s.name, NUMPY_DTYPES[s.dtype], s.shape, s.offset) for s in state if s.is_weight
    )


def encode_weights(weights: Sequence[Weight], arrays: Mapping[str, Array]) -> bytes:
    """`weights.safetensors`; the arrays must be exactly those that `weights` names."""
    matched = match_weights(weights, arrays, "weights")
    return encode_safetensors(matched)


def decode_weights(
    weights: Sequence[Weight],
    data: bytes,
    source: str = "weights",
    names: Mapping[str, str] | None = None,
) -> dict[str, Array]:
    """The arrays in a safetensors file, stored small or not, or a JSON document, in the order of
    `weights`.

    `names` maps keys of the file to state_dict keys and wins over every other rule.
    Raises `BundleFormatError` for an ambiguous, missing, surplus or wrongly sized key, by name.
    """
    if is_json(data):
        return _decode_json(weights, data, source, names or {})
    tensors = plain_weights(decode_safetensors(data, source), source)
    renamed = _rename(tensors, names or {}, source)
    return match_weights(weights, renamed, source)


def is_json(data: bytes) -> bool:
    """Whether a weight file is JSON: the length that opens a safetensors file has zero bytes."""
    return b"\0" not in data[:8] and data.lstrip()[:1] == b"{"


def match_weights(
    weights: Sequence[Weight], arrays: Mapping[str, Array], source: str
) -> dict[str, Array]:
    """The arrays in the order of `weights`, after checking names, shapes, dtypes and ties."""
    _check_names(weights, arrays, source)
    for weight in weights:
        array = arrays[weight.name]
        if array.shape != weight.shape:
            raise BundleFormatError(
                f"{source}: {weight.name!r} has shape {list(array.shape)}, "
                f"the model needs {list(weight.shape)}"
            )
        if array.dtype != weight.dtype:
            raise BundleFormatError(
                f"{source}: {weight.name!r} is {array.dtype}, the model needs {weight.dtype}"
            )
    _check_tied(weights, arrays, source)
    return {w.name: arrays[w.name] for w in weights}


def encode_json_weights(
    weights: Sequence[Weight],
    arrays: Mapping[str, Array],
    model: str,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """The JSON form. Raises `BundleFormatError` where a value is not finite: JSON has none such."""
    matched = match_weights(weights, arrays, "weights")
    for name, array in matched.items():
        if not np.isfinite(array).all():
            raise BundleFormatError(
                f"{name!r} holds values that are not finite, which JSON cannot express",
                remedy="export safetensors instead",
            )
    keys = _json_keys([w.name for w in weights])
    document = {
        "model_type": model,
        "framework": "hearth",
        "weights": {keys[n]: a.reshape(-1).tolist() for n, a in matched.items()},
        "shapes": {keys[n]: list(a.shape) for n, a in matched.items()},
        "metadata": dict(metadata or {}),
    }
    return json.dumps(document, allow_nan=False)


def _decode_json(
    weights: Sequence[Weight], data: bytes, source: str, names: Mapping[str, str]
) -> dict[str, Array]:
    document = _parse(data, source)
    lists, shapes = document.get("weights"), document.get("shapes", {})
    if not isinstance(lists, dict) or not isinstance(shapes, dict):
        raise BundleFormatError(f"{source}: there is no object 'weights'")
    by_name = _resolve([w.name for w in weights], list(lists), names, source)
    _check_names(weights, by_name, source)
    arrays = {
        w.name: _json_array(w, lists[by_name[w.name]], shapes.get(by_name[w.name]), source)
        for w in weights
    }
    _check_tied(weights, arrays, source)
    return arrays


def _parse(data: bytes, source: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleFormatError(f"{source} is not JSON", why=str(error)) from error
    assert isinstance(document, dict)  # the caller saw the opening brace
    return document


def _json_array(weight: Weight, values: Any, shape: Any, source: str) -> Array:
    where = f"{source}: {weight.name!r}"
    if not isinstance(values, list):
        raise BundleFormatError(f"{where} must be a flat list of numbers")
    allowed = _JSON_TYPES[weight.dtype.kind]
    for index, value in enumerate(values):
        if type(value) not in allowed:
            raise BundleFormatError(f"{where} holds {value!r} at {index}: not {weight.dtype}")
    if len(values) != prod(weight.shape):
        raise BundleFormatError(
            f"{where} has {len(values)} values, shape {list(weight.shape)} needs "
            f"{prod(weight.shape)}"
        )
    if shape is not None and shape != list(weight.shape):
        raise BundleFormatError(f"{where} has shape {shape}, the model needs {list(weight.shape)}")
    return np.array(values, dtype=weight.dtype).reshape(weight.shape)


def _json_keys(names: Sequence[str]) -> dict[str, str]:
    flat = {name: name.replace(".", "_") for name in names}
    return flat if len(set(flat.values())) == len(flat) else {name: name for name in names}


def _resolve(
    wanted: Sequence[str], keys: Sequence[str], names: Mapping[str, str], source: str
) -> dict[str, str]:
    """State_dict name to the key of the document that holds it."""
    unknown = [key for key in names if key not in keys]
    if unknown:
        raise BundleFormatError(f"{source} has no key {unknown[0]!r}, which the name map names")
    rest = [key for key in keys if key not in names]
    if set(rest) <= set(wanted):
        resolved = {key: [key] for key in rest}
    else:
        taken = set(names.values())
        resolved = {
            key: [n for n in wanted if n not in taken and key in (n, n.replace(".", "_"))]
            for key in rest
        }
    found: dict[str, str] = {}
    for key, candidates in {**{k: [n] for k, n in names.items()}, **resolved}.items():
        if len(candidates) > 1:
            raise BundleFormatError(
                f"{source}: the key {key!r} is ambiguous: {' or '.join(candidates)}",
                remedy="give an explicit name map from keys of the file to state_dict keys",
            )
        name = candidates[0] if candidates else key
        if name in found:
            raise BundleFormatError(
                f"{source}: both {found[name]!r} and {key!r} stand for {name!r}"
            )
        found[name] = key
    return found


def _rename(
    tensors: Mapping[str, Array], names: Mapping[str, str], source: str
) -> dict[str, Array]:
    missing = [key for key in names if key not in tensors]
    if missing:
        raise BundleFormatError(f"{source} has no key {missing[0]!r}, which the name map names")
    renamed = {names.get(key, key): array for key, array in tensors.items()}
    if len(renamed) != len(tensors):
        raise BundleFormatError(f"{source}: the name map makes two keys equal")
    return renamed


def _check_names(weights: Sequence[Weight], found: Iterable[str], source: str) -> None:
    given, wanted = list(found), [w.name for w in weights]
    missing = [name for name in wanted if name not in given]
    surplus = [name for name in given if name not in wanted]
    if not missing and not surplus:
        return
    parts = [f"misses {_list(missing)}"] * bool(missing)
    parts += [f"has {_list(surplus)}, unknown to the model"] * bool(surplus)
    raise BundleFormatError(
        f"{source} {' and '.join(parts)}",
        remedy="these weights belong to another model, or need an explicit name map",
    )


def _check_tied(weights: Sequence[Weight], arrays: Mapping[str, Array], source: str) -> None:
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for weight in weights:
        if weight.place is None:
            continue
        other = first.setdefault((weight.place, weight.shape), weight.name)
        if arrays[other].tobytes() != arrays[weight.name].tobytes():
            raise BundleFormatError(
                f"{source}: {weight.name!r} is tied to {other!r}, but their values differ"
            )


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"

"""Frozen dataclasses to JSON values and back, with the path of the first bad field.

The dataclass is the table: its field names, types and defaults say what the JSON looks like.  A
field whose value is its default `None` is left out; `metadata={"key": …}` renames a field whose
JSON name is a Python keyword.  This is not a general serializer: it knows the few types that
`manifest.py` uses and refuses, loudly, everything else.
"""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hearth.errors import BundleFormatError, InternalError
from hearth.ir.dim import Dim

T = TypeVar("T")


def encode(value: object) -> Any:
    """The JSON value of a dataclass, a `Dim`, or a container of such."""
    if isinstance(value, Dim):
        return value.to_json()
    if is_dataclass(value):
        return {
            _key(f): encode(getattr(value, f.name))
            for f in fields(value)
            if not (f.default is None and getattr(value, f.name) is None)
        }
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {k: encode(v) for k, v in value.items()}
    return value


def decode(kind: type[T], value: object, path: str) -> T:
    """A checked `kind` from a JSON value.

    Raises `BundleFormatError` naming the path of the first field that is missing, unknown or of a
    wrong type.
    """
    result = _decode(kind, value, path)
    assert isinstance(result, kind)
    return result


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, value, path)
    if origin is Literal:
        return value if value in arguments else _refuse(path, f"one of {arguments}", value)
    if origin is tuple:
        return _decode_tuple(arguments, value, path)
    if origin is dict:
        if not isinstance(value, dict):
            _refuse(path, "an object", value)
        return {k: _decode(arguments[1], v, f"{path}.{k}") for k, v in value.items()}
    if kind is Dim:
        return _decode_dim(value, path)
    if is_dataclass(kind):
        return _decode_object(kind, value, path)
    return _decode_scalar(kind, value, path)


def _decode_union(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    choices = [a for a in arguments if a is not type(None)]
    if len(choices) != 1:
        raise InternalError(f"the manifest's field {path} has a union type that JSON cannot tell")
    return _decode(choices[0], value, path)


def _decode_tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _refuse(path, "a list", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if len(arguments) != len(value):
        _refuse(path, f"a list of {len(arguments)}", value)
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(_decode(kind, v, f"{path}[{i}]") for i, (kind, v) in pairs)


def _decode_dim(value: Any, path: str) -> Dim:
    coefficients = value if isinstance(value, list) else [value]
    if not coefficients or any(type(c) is not int for c in coefficients):
        _refuse(path, "an integer or a list of polynomial coefficients", value)
    return Dim.from_json(value)


def _decode_object(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        _refuse(path, "an object", value)
    table = _fields(kind)
    for key in value:
        if key not in table:
            _refuse(f"{path}.{key}", "no such field", value[key])
    given: dict[str, Any] = {}
    for key, (field, field_kind) in table.items():
        if key in value:
            given[field.name] = _decode(field_kind, value[key], f"{path}.{key}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise BundleFormatError(f"{path}.{key} is missing")
    return kind(**given)


def _decode_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    if kind is float:
        # bool is an int in Python, and JSON has no integers: 1 is a good float, true is not.
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
        _refuse(path, "a finite number", value)
    names = {int: "an integer", str: "a string", bool: "true or false"}
    if kind not in names:
        raise InternalError(f"the manifest's field {path} has the unknown type {kind}")
    return value if type(value) is kind else _refuse(path, names[kind], value)


@cache
def _fields(kind: type) -> dict[str, tuple[Field[Any], Any]]:
    hints = get_type_hints(kind)
    return {_key(f): (f, hints[f.name]) for f in fields(kind)}


def _key(field: Field[Any]) -> str:
    return str(field.metadata.get("key", field.name))


def _refuse(path: str, expected: str, value: object) -> Any:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    raise BundleFormatError(f"{path}: expected {expected}, found {shown}")

"""Reads and writes safetensors files, byte for byte reproducibly.

The layout (https://github.com/huggingface/safetensors): a little-endian u64 with the length of the
header, the header as JSON padded with spaces to a multiple of 8, then the tensors without gaps.
Ours differs from the reference writer in one point: tensors stay in the order they are given (the
reference sorts by dtype and name), so an export of untouched weights equals the original file.
The reader refuses every file whose header does not describe each of its bytes exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.files import read_file
from hearth.errors import BundleFormatError, InvalidInputError

Array = NDArray[Any]

# numpy has no bfloat16 and no float8: files with those are refused by name.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER_BYTES: Final = 100_000_000  # the reference reader's limit


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The named tensors of a file in file order, and its metadata."""

    tensors: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def encode_safetensors(
    tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a safetensors file with the tensors in the given order."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    chunks: list[bytes] = []
    position = 0
    for name, array in tensors.items():
        stored = array.dtype.newbyteorder("<")
        if stored not in _NAMES:
            raise InvalidInputError(f"tensor {name!r} has dtype {array.dtype}, which no file holds")
        if name == "__metadata__":
            raise InvalidInputError("a tensor cannot be called '__metadata__'")
        chunk = array.astype(stored, copy=False).tobytes(order="C")
        header[name] = {
            "dtype": _NAMES[stored],
            "shape": list(array.shape),
            "data_offsets": [position, position + len(chunk)],
        }
        chunks.append(chunk)
        position += len(chunk)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *chunks))


def decode_safetensors(data: bytes, source: str = "safetensors file") -> TensorFile:
    """The tensors of a file; `source` names it in messages.

    Raises `BundleFormatError` for every way in which a file can be bad.
    """
    header, body = _split(data, source)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BundleFormatError(f"{source}: __metadata__ must map names to strings")
    entries = [_entry(name, value, source) for name, value in header.items()]
    _check_coverage(entries, len(body), source)
    return TensorFile({e.name: _tensor(e, body, source) for e in entries}, metadata)


def read_safetensors(path: str | Path) -> TensorFile:
    """The tensors of a file on disk."""
    return decode_safetensors(read_file(path), str(path))


def _split(data: bytes, source: str) -> tuple[dict[str, Any], memoryview]:
    """The parsed header and the bytes after it."""
    if len(data) < 8:
        raise BundleFormatError(f"{source} has {len(data)} bytes, a header needs at least 8")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _MAX_HEADER_BYTES):
        raise BundleFormatError(
            f"{source} announces a header of {length} bytes, but has {len(data) - 8} in all",
            why="the file is truncated, or is not a safetensors file",
        )
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BundleFormatError(f"{source}: the header is not JSON", why=str(error)) from error
    if not isinstance(header, dict):
        raise BundleFormatError(f"{source}: the header is not a JSON object")
    return header, memoryview(data)[8 + length :]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return seen


def _entry(name: str, value: Any, source: str) -> _Entry:
    where = f"{source}: tensor {name!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise BundleFormatError(f"{where} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BundleFormatError(f"{where} has the unknown dtype {dtype!r}")
    if not _is_sizes(shape):
        raise BundleFormatError(f"{where} has the shape {shape!r}, not a list of sizes")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BundleFormatError(f"{where} has the data_offsets {offsets!r}, not [begin, end]")
    needed = prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != needed:
        raise BundleFormatError(
            f"{where} has {offsets[1] - offsets[0]} bytes, {dtype} {shape} needs {needed}"
        )
    return _Entry(name, DTYPES[dtype], tuple(shape), offsets[0], offsets[1])


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _check_coverage(entries: list[_Entry], size: int, source: str) -> None:
    """Each byte after the header belongs to exactly one tensor."""
    position = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != position:
            kind = "overlaps the one before it" if entry.begin < position else "leaves a gap"
            raise BundleFormatError(
                f"{source}: tensor {entry.name!r} begins at byte {entry.begin}, expected "
                f"{position}: it {kind}"
            )
        position = entry.end
    if position != size:
        why = "the file is truncated" if position > size else "there are surplus bytes"
        raise BundleFormatError(
            f"{source} has {size} bytes of tensors, its header describes {position}", why=why
        )


def _tensor(entry: _Entry, body: memoryview, source: str) -> Array:
    raw = np.frombuffer(body[entry.begin : entry.end], dtype=np.uint8)
    if entry.dtype.kind == "b" and (raw > 1).any():
        raise BundleFormatError(f"{source}: tensor {entry.name!r} is BOOL but holds {raw.max()}")
    # A copy: the result is writable, aligned, and does not keep the whole file alive.
    return np.frombuffer(raw.tobytes(), dtype=entry.dtype).reshape(entry.shape).copy()

"""The dtypes of files, their NumPy types, and the conversion to and from device elements.

On a device an element always takes four bytes: int64 and bool become i32 (spec/manifest.md).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.errors import InvalidInputError

NUMPY_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "float32": np.dtype(np.float32),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "bool": np.dtype(np.bool_),
    "uint32": np.dtype(np.uint32),
}
_DEVICE_DTYPES: Final[dict[str, np.dtype[Any]]] = NUMPY_DTYPES | {
    "int64": np.dtype(np.int32),
    "bool": np.dtype(np.int32),
}


def to_device(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The four-byte elements of an array for a device; `name` is for the message.

    Raises `InvalidInputError` where an integer does not fit in 32 bits.
    """
    target = _DEVICE_DTYPES[array.dtype.name]
    if array.dtype == np.int64 and array.size:
        low, high = int(array.min()), int(array.max())
        if low < -(2**31) or high >= 2**31:
            raise InvalidInputError(
                f"{name} holds {low if low < -(2**31) else high}, which does not fit in 32 bits",
                why="devices compute with 32-bit integers",
            )
    return np.ascontiguousarray(array, dtype=target)


def from_device(elements: NDArray[Any], file_dtype: str) -> NDArray[Any]:
    """Device elements in the dtype that files have."""
    return elements.astype(NUMPY_DTYPES[file_dtype], copy=False)

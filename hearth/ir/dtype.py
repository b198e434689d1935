"""Element types on the device.

Files know more types (`int64`, `float64`); `DEVICE_DTYPE` says what each becomes.  A half is a
float32 whose value a half can hold: computing is done in float32, and `round_float16` or
`round_bfloat16` (scalar.py) is where a program rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT32, INT32, UINT32, BOOL = "float32", "int32", "uint32", "bool"
DTYPES = (FLOAT32, INT32, UINT32, BOOL)
ELEMENT_BYTES = 4
ALIGNMENT_BYTES = 256  # what WebGPU asks of the offset of a storage binding
HALF_BYTES = 2  # of a float16, where a device stores one as such

DEVICE_DTYPE = {
    "float32": FLOAT32,
    "float64": FLOAT32,
    "float16": FLOAT32,
    "bfloat16": FLOAT32,
    "int64": INT32,
    "int32": INT32,
    "int16": INT32,
    "int8": INT32,
    "uint8": INT32,
    "uint32": UINT32,
    "bool": BOOL,
}

HALVES = ("float16", "bfloat16")

# What programs take and return, and what files hold.
FILE_DTYPES = frozenset(("float32", "int64", "int32", "bool", "uint32"))

# How an element is stored: a bool is an int32 that is 0 or 1.
STORED_AS: dict[str, npt.DTypeLike] = {
    FLOAT32: np.float32,
    INT32: np.int32,
    UINT32: np.uint32,
    BOOL: np.int32,
}


def align(size: int) -> int:
    """The next multiple of 256: values and slots begin at one."""
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def numpy_dtype(dtype: str, float_dtype: npt.DTypeLike = np.float32) -> np.dtype[Any]:
    """The NumPy type of a value; the reference may compute floats in float64."""
    if dtype == FLOAT32:
        return np.dtype(float_dtype)
    return np.dtype({INT32: np.int32, UINT32: np.uint32, BOOL: np.bool_}[dtype])

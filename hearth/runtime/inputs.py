"""Checks a batch against a program before any device sees it.

Every runner calls `check_batch`: shape, dtype, index range and finiteness, with one message for
all backends.  The browser runtime makes the same checks in TypeScript.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.dtypes import NUMPY_DTYPES, to_device
from hearth.bundle.manifest import Input, Program
from hearth.errors import InvalidInputError
from hearth.ir.dim import Shape

Array = NDArray[Any]
Arrays = tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """Device elements for each buffer that the batch fills: {buffer index: contiguous array}."""

    batch: int
    arrays: dict[int, Array]


def check_batch(
    program: Program, inputs: Arrays, targets: Arrays = (), *, finite: bool = True
) -> CheckedBatch:
    """The batch size and device arrays of a batch; raises `InvalidInputError` naming the argument.

    `inputs` and `targets` are in the order of the program's inputs of these roles.  `finite` is
    asked of the data of a model; functions that train nothing take NaN and infinity as well.
    """
    slots = {role: [i for i in program.inputs if i.role == role] for role in ("input", "target")}
    given = {"input": inputs, "target": targets}
    for role, entries in slots.items():
        if len(entries) != len(given[role]):
            names = ", ".join(e.name for e in entries) or "none"
            raise InvalidInputError(
                f"{len(given[role])} {role}s given, the program takes {len(entries)} ({names})"
            )
    pairs = [p for role in slots for p in zip(slots[role], given[role], strict=True)]
    batch: int | None = None
    for entry, array in pairs:
        batch = _check_shape(entry, array.shape, batch)
    return CheckedBatch(batch or 1, {e.buffer: _device_array(e, a, finite) for e, a in pairs})


def file_arrays(
    program: Program, inputs: Arrays, targets: Arrays = (), *, finite: bool = True
) -> tuple[int, list[tuple[Input, Array]]]:
    """The batch size, and each argument with its array as a file would hold it.

    Checked like `check_batch`; in the dtype of the manifest, little-endian and contiguous, inputs
    before targets.
    """
    batch = check_batch(program, inputs, targets, finite=finite).batch
    entries = [i for role in ("input", "target") for i in program.inputs if i.role == role]
    return batch, [
        (entry, np.ascontiguousarray(array, NUMPY_DTYPES[entry.dtype].newbyteorder("<")))
        for entry, array in zip(entries, (*inputs, *targets), strict=True)
    ]


def batch_of(shape: Shape, actual: tuple[int, ...]) -> int | None:
    """The batch size B for which `shape` is `actual`; None where B does not occur or fits not."""
    for extent, size in zip(shape, actual, strict=False):
        if not extent.is_static and len(extent.coefficients) == 2:
            offset, factor = extent.coefficients
            batch, rest = divmod(size - offset, factor)
            return batch if rest == 0 and batch >= 1 else None
    return None


def _check_shape(entry: Input, actual: tuple[int, ...], batch: int | None) -> int | None:
    own = batch_of(entry.shape, actual)
    if batch is None:
        batch = own
    expected = tuple(d.at(batch or 1) for d in entry.shape)
    if actual == expected:
        return batch
    if len(actual) == len(expected) and 0 in actual:
        why = "a batch has at least one sample"
    elif own is not None and batch is not None and own != batch:
        why = f"the tensors before it have {batch} samples, this one has {own}"
    else:
        why = "B is the batch size, at least 1"
    wanted = ", ".join(str(d) for d in entry.shape)
    raise InvalidInputError(
        f"{entry.role} {entry.name!r} has shape {list(actual)}, the model takes [{wanted}]", why=why
    )


def _device_array(entry: Input, array: Array, finite: bool) -> Array:
    array = _of_dtype(entry, array)
    if finite and array.dtype == np.float32 and not np.isfinite(array).all():
        index = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        raise InvalidInputError(
            f"{entry.role} {entry.name!r} holds {array[index]} at {[int(i) for i in index]}",
            why="one value that is not finite makes every weight NaN",
        )
    if entry.range is not None:
        _check_range(entry, array, entry.range)
    return to_device(array, f"{entry.role} {entry.name!r}")


def _of_dtype(entry: Input, array: Array) -> Array:
    """The array in the dtype of the program; only integers of another width are converted."""
    wanted = NUMPY_DTYPES[entry.dtype]
    if array.dtype == wanted:
        return array
    if wanted.kind in "iu" and array.dtype.kind in "iu":
        converted = array.astype(wanted)
        if (converted == array).all():
            return converted
    raise InvalidInputError(
        f"{entry.role} {entry.name!r} is {array.dtype}, the model takes {entry.dtype}",
        remedy=f"convert it first: array.astype(numpy.{wanted.name})",
    )


def _check_range(entry: Input, array: Array, allowed: tuple[int, int]) -> None:
    low, high = allowed
    bad = (array < low) | (array >= high)
    if entry.except_ is not None:
        bad &= array != entry.except_
    if not bad.any():
        return
    index = np.unravel_index(int(np.argmax(bad)), array.shape)
    extra = f" or {entry.except_}" if entry.except_ is not None else ""
    raise InvalidInputError(
        f"{entry.role} {entry.name!r} holds {array[index]} at {[int(i) for i in index]}, "
        f"allowed are {low} to {high - 1}{extra}",
        why="the value is an index: a class label or a token",
    )

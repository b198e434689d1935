"""What a case must give: PyTorch in float64, or as near to it as PyTorch's own float32 comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hearth.capture.fastpath import without_fastpath
from hearth.capture.random import replay_random
from tests.database.cases import Case, Tensors

SEED, STEP = 0x1234_5678_9ABC_DEF0, 0
# Types that no device has: a sample that takes or gives one is outside of every claim.
FOREIGN = frozenset(
    (
        torch.complex32,
        torch.complex64,
        torch.complex128,
        torch.float16,
        torch.bfloat16,
        torch.float64,
    )
)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Expected:
    """The outputs of eager PyTorch: in float64, and in the float32 of the sample."""

    wide: list[Array]
    narrow: list[Array]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def widen(tensors: Tensors) -> Tensors:
    return [t.double() if t.dtype == torch.float32 else t for t in tensors]


def expect(case: Case) -> Expected | None:
    """None where a type is foreign to every device."""
    wide = _eager(case, widen(case.tensors), torch.float64)
    narrow = _eager(case, case.tensors, torch.float32)
    if any(t.dtype in FOREIGN for t in (*case.tensors, *narrow)):
        return None
    return Expected([_array(t) for t in wide], [_array(t) for t in narrow])


def _eager(case: Case, tensors: Tensors, dtype: torch.dtype) -> Tensors:
    with default_dtype(dtype), without_fastpath(), replay_random(SEED, STEP):
        return case.function(*[t.clone() for t in tensors])


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().contiguous().numpy(force=True)


def exact(ours: Sequence[Array], expected: Expected) -> str | None:
    """What is wrong with a computation in float64, if anything."""
    for k, (got, want) in enumerate(zip(ours, expected.wide, strict=True)):
        if got.shape != want.shape:
            return f"output {k} has the shape {got.shape} instead of {want.shape}"
        if want.dtype.kind != "f":
            wrong = ~_same_integers(got, want)
        else:
            # PyTorch itself computes some functions of integers in float32.
            rtol = 1e-9 if want.dtype == np.float64 else 1e-5
            scale = np.abs(want[np.isfinite(want)]).max(initial=0.0)
            atol = rtol * scale + 1e-12  # what cancels leaves roundings of numbers of about one
            wrong = ~np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
        if wrong.any():
            return _difference(k, got, want, wrong)
    return None


def near(ours: Sequence[Array], expected: Expected) -> str | None:
    """What is wrong with a computation in float32: |ours - wide| <= 4 |narrow - wide| + 1e-5.

    All relative to the tensor's largest element, and 1e-7 more: what cancels leaves roundings.
    """
    for k, (got, wide, narrow) in enumerate(zip(ours, expected.wide, expected.narrow, strict=True)):
        if got.shape != wide.shape:
            return f"output {k} has the shape {got.shape} instead of {wide.shape}"
        same = _same_integers(got, narrow) | _same_integers(got, wide)
        if wide.dtype.kind == "f":
            same |= np.isnan(got) & (np.isnan(narrow) | np.isnan(wide))
            same |= _within_rounding(got, wide, narrow)
        if not same.all():
            return _difference(k, got, wide, ~same)
    return None


def _same_integers(got: Array, want: Array) -> Array:
    """Equal on the device, where integers have 32 bits and int64's limits are int32's.

    What was added to a limit before float32 rounded it may be left over.
    """
    same: Array = got == want.astype(got.dtype)
    if want.dtype != np.int64:
        return same
    limits = np.iinfo(np.int32)
    clipped = np.clip(want, limits.min, limits.max)
    return same | ((clipped != want) & np.isclose(got, clipped, rtol=1e-7, atol=0))


def _within_rounding(got: Array, wide: Array, narrow: Array) -> Array:
    finite = np.isfinite(wide) & np.isfinite(narrow)
    scale = np.abs(wide[finite]).max(initial=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.abs(narrow - wide, where=finite, out=np.zeros(wide.shape)).max(initial=0.0)
        return finite & (np.abs(got - wide) <= 4 * spread + 1e-5 * scale + 1e-7)


def _difference(k: int, got: Array, want: Array, wrong: Array) -> str:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"output {k}{list(place)} is {got[place]!s} instead of {want[place]!s}"

"""Exceptions of the model or of the tracer become ours: line, reason and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)

from hearth.capture.origins import Origins
from hearth.errors import CaptureError, HearthError, UnsupportableError

_MASK = (
    "keep every element: torch.where(mask, x, 0) instead of x[mask], and divide by mask.sum() for "
    "a mean"
)
_COUNT = "compare with the values that can occur: (x[:, None] == torch.arange(n)).sum(0)"
_ITEM = (
    "replace branches on tensor values and .item() by torch.where; give one_hot its num_classes, "
    "tensor_split plain integers, repeat_interleave its output_size"
)
_INSTEAD = {
    "aten.index": _MASK,
    "aten.masked_select": _MASK,
    "aten.nonzero": f"{_MASK}; for positions, torch.nonzero_static with a size",
    "aten._unique": _COUNT,
    "aten.unique_dim": _COUNT,
    "aten.unique_consecutive": "mark where x[1:] differs from x[:-1], and keep every element",
    "aten.bincount": "count a known number of classes: F.one_hot(x, classes).sum(0)",
    "aten.repeat_interleave": "pass repeat_interleave its output_size",
}


def _instead_of(operator: object) -> str:
    """The advice for an overload such as `aten.nonzero.default`, by the start of its name."""
    name = str(operator)
    return next((text for start, text in _INSTEAD.items() if name.startswith(start)), _ITEM)


# What leaves PyTorch while it runs: the start of a message, and what to write instead.
_OUTSIDE = {
    ".numpy() is not supported": "compute with torch operations: NumPy's results do not reach the "
    "compiled step",
    "There was no fake impl registered": "write the operator as a function of torch operations; "
    "its gradient follows, or an autograd.Function of torch operations gives it",
}


def _outside(error: Exception) -> str | None:
    return next((text for start, text in _OUTSIDE.items() if start in str(error)), None)


@contextmanager
def explained(origins: Origins) -> Iterator[None]:
    """Turn an exception of the model, or of the tracer, into one of ours that names the line."""
    try:
        yield
    except HearthError:
        raise
    except Exception as error:
        if _reads_values(error):
            raise UnsupportableError(
                "the step depends on values that are only known when it runs",
                where=origins.of(error),
                why="a compiled step performs the same operations for every batch",
                remedy=_instead_of(getattr(error, "func", None)),
            ) from error
        instead = _outside(error)
        if instead is not None:
            raise UnsupportableError(
                "the step computes outside of PyTorch",
                where=origins.of(error),
                why="only what PyTorch's own operators do can be compiled and differentiated",
                remedy=instead,
            ) from error
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise CaptureError(
            f"the step cannot be traced: {type(error).__name__}: {first}",
            where=origins.of(error),
            remedy="run the same step in PyTorch at this shape; if it works there, report this",
        ) from error


def _reads_values(error: Exception) -> bool:
    """Whether an operator asked for the numbers in a tensor, or made a shape of them."""
    if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
        return True
    return isinstance(error, RuntimeError) and "data is not allocated yet" in str(error)

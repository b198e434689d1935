"""Does the model treat a single sample as it treats many?

The three traces are of larger batches, so `if len(x) == 1` would pass them unseen.  The function is
run once more on one sample, without recording a graph, and two things are compared: which functions
each of the user's lines called, and the shapes of the outputs (`squeeze()` drops an axis of 1).
Not the operations: PyTorch itself takes shorter ways for extents of 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch._subclasses.fake_tensor import FakeTensorMode

from hearth.capture.graph import AtenGraph
from hearth.capture.origins import UNKNOWN
from hearth.errors import CaptureError

Calls = Counter[tuple[str, str]]  # (origin, function)

_REMEDY = (
    "write the step so that one sample takes the same way: no `if` on a batch of 1, and "
    "squeeze(axis) with the axis instead of squeeze()"
)


class GradientReached(Exception):  # noqa: N818
    """The forward pass and the loss are over."""


@contextmanager
def untraced() -> Iterator[None]:
    """Tensors without data, and no record of what is done with them."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def check_single(
    outputs: Mapping[str, tuple[int, ...]] | None, graph: AtenGraph, single: Calls, many: Calls
) -> None:
    """Raise `CaptureError` where one sample meets other calls or gives other shapes.

    `outputs` is None where one sample raised an error: then the model has no meaning to compare.
    """
    if outputs is None:
        return
    for output in graph.outputs:
        expected = tuple(extent.at(1) for extent in output.value.shape)
        if outputs.get(output.name, expected) != expected:
            raise _differs("", f"{output.name} has the shape {outputs[output.name]} for one sample "
                           f"and {list(output.value.shape)} for B samples")  # fmt: skip
    for origin, function in (single - many) + (many - single):
        if origin != UNKNOWN:
            raise _differs(origin, f"{function} is called {single[origin, function]} times for one "
                           f"sample and {many[origin, function]} times for more")  # fmt: skip


def _differs(origin: str, what: str) -> CaptureError:
    return CaptureError(
        f"the step does something else for a single sample: {what}",
        where=origin,
        why="a compiled step serves every batch size from 1 up with the same operations",
        remedy=_REMEDY,
    )

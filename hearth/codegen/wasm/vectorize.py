"""Which axis of a kernel runs on four lanes, by counting what the lanes must load.

Either an outer axis (four points at a time: maps, and reductions over columns), or the last axis of
each stage (four elements of one point: reductions over rows, and stores of rows).
"""

from __future__ import annotations

from hearth.codegen.wasm.canonical import Canonical
from hearth.ir.dim import Dim, product
from hearth.ir.expr import Apply
from hearth.ir.index import Index
from hearth.ir.kernel import Accumulate, Kernel, Load, Stage, Store
from hearth.ir.walking import stage_expressions, walk_kernel

TYPICAL_BATCH = 32
FAR = 1024  # elements: lanes on different pages, which share the few places of the cache
_INNER = None


def vector_axis(kernel: Kernel, canonical: Canonical) -> int | None:
    """The outer axis to vectorize, or None for the last axis of each stage."""
    costs: dict[int | None, float] = {
        axis: _cost(kernel, canonical, axis) for axis in reversed(range(len(kernel.axes)))
    }
    costs[_INNER] = _cost(kernel, canonical, _INNER)
    return min(costs, key=lambda axis: costs[axis])


def is_vectorized(stage: Stage, first_inner: int, canonical: Canonical) -> bool:
    """Whether a stage gains from four lanes along its last axis."""
    if not stage.axes or (isinstance(stage, Accumulate) and _finds_position(stage)):
        return False
    last = first_inner + len(stage.axes) - 1
    return _stage_cost(stage, canonical, last, stage.axes[-1]) < _scalar_cost(stage, canonical)


def _finds_position(stage: Accumulate) -> bool:
    return any(r.kind.startswith("arg") for r in stage.reductions)


def _cost(kernel: Kernel, canonical: Canonical, axis: int | None) -> float:
    total = 0.0
    for stage in kernel.stages:
        weight = product(stage.axes).at(TYPICAL_BATCH)
        if axis is not None:
            total += weight * _stage_cost(stage, canonical, axis, kernel.axes[axis])
        elif is_vectorized(stage, len(kernel.axes), canonical):
            last = len(kernel.axes) + len(stage.axes) - 1
            total += weight * _stage_cost(stage, canonical, last, stage.axes[-1]) + 2
        else:
            total += weight * _scalar_cost(stage, canonical)
    return total


def _scalar_cost(stage: Stage, canonical: Canonical) -> float:
    accesses, applies = _accesses(stage)
    return len(accesses) + applies


def _stage_cost(stage: Stage, canonical: Canonical, axis: int, extent: Dim) -> float:
    """Instructions per point: four lanes share them, a remainder does not."""
    accesses, applies = _accesses(stage)
    per_vector = applies + sum(_access_cost(canonical.stride(i, axis)) for i in accesses)
    size = extent.at(TYPICAL_BATCH)
    if not extent.is_static and size % 4 == 0:
        size -= 1
    vectors, rest = divmod(size, 4)
    return (vectors * per_vector + rest * (applies + len(accesses))) / max(size, 1)


def _access_cost(stride: Dim | None) -> float:
    if stride == Dim():
        return 0.3
    if stride is not None and abs(stride.at(TYPICAL_BATCH)) >= FAR:
        return 12.0
    return 1.0 if stride == Dim.of(1) else 6.0


def _accesses(stage: Stage) -> tuple[list[Index], int]:
    expressions = list(walk_kernel(stage_expressions(stage)))
    indices = [e.index for e in expressions if isinstance(e, Load)]
    if isinstance(stage, Store):
        indices.append(stage.index)
    return indices, sum(isinstance(e, Apply) for e in expressions) + 1

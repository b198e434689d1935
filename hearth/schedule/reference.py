"""What a kernel means, executed slowly with NumPy: the oracle of both code generators.

Every stage is evaluated over its whole iteration space at once, in blocks of the first axis so
that large kernels fit in memory.  Templates are ignored: the stages define the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hearth.ir.dtype import BOOL, numpy_dtype
from hearth.ir.index import Axis, FloorDiv, Index, Mod, Value
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    Guard,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Reduction,
    Store,
)
from hearth.ir.scalar import SCALAR_OPS, Apply, BatchValue, Const, Expr
from hearth.ir.walking import walk_kernel

Array = Any
BLOCK_POINTS = 1 << 22


def run_kernel(kernel: Kernel, buffers: Sequence[Array], batch: int) -> None:
    """Execute a kernel on flat arrays (one per parameter), writing the written ones in place."""
    outer = [extent.at(batch) for extent in kernel.axes]
    # Reads and writes of one buffer meet only at equal indices, so blocks may run in any order.
    for block in _blocks(kernel, outer, batch):
        _Block(kernel, buffers, batch, block).run()


def _blocks(kernel: Kernel, outer: list[int], batch: int) -> Iterator[list[range]]:
    widest = max(math.prod(e.at(batch) for e in stage.axes) for stage in kernel.stages)
    if not outer:
        yield []
        return
    points = math.prod(outer[1:]) * widest
    rows = max(1, BLOCK_POINTS // max(points, 1))
    for start in range(0, outer[0], rows):
        stop = min(start + rows, outer[0])
        yield [range(start, stop), *(range(extent) for extent in outer[1:])]


class _Block:
    """One block of the outer loops; arrays have the shape of the block plus the inner axes."""

    def __init__(self, kernel: Kernel, buffers: Sequence[Array], batch: int,
                 ranges: list[range]) -> None:  # fmt: skip
        self.kernel, self.buffers, self.batch, self.ranges = kernel, buffers, batch, ranges
        self.accumulators: list[Array] = []

    def run(self) -> None:
        for stage in self.kernel.stages:
            spaces = [*self.ranges, *(range(e.at(self.batch)) for e in stage.axes)]
            grid = list(
                np.meshgrid(
                    *(np.arange(r.start, r.stop) for r in spaces), indexing="ij", sparse=True
                )
            )
            shape = tuple(len(r) for r in spaces)
            if isinstance(stage, Accumulate):
                self.accumulate(stage, grid, shape)
            else:
                self.store(stage, grid, shape)

    def accumulate(self, stage: Accumulate, grid: list[Array], shape: tuple[int, ...]) -> None:
        values = self.evaluate([r.value for r in stage.reductions], grid, shape)
        outer = shape[: len(self.ranges)]
        for reduction, value in zip(stage.reductions, values, strict=True):
            rows = np.broadcast_to(value, shape).reshape(*outer, -1)
            with np.errstate(all="ignore"):
                self.accumulators.append(reduce_rows(reduction, rows))

    def store(self, stage: Store, grid: list[Array], shape: tuple[int, ...]) -> None:
        (value,) = self.evaluate([stage.value], grid, shape)
        target = np.broadcast_to(self.index(stage.index, grid, {}), shape)
        self.buffers[stage.param][target] = np.broadcast_to(value, shape)

    def evaluate(self, roots: list[Expr], grid: list[Array], shape: tuple[int, ...]) -> list[Array]:
        values: dict[int, Array] = {}
        with np.errstate(all="ignore"):
            for expr in walk_kernel(roots):
                values[id(expr)] = self.value(expr, grid, values, len(shape))
        return [values[id(root)] for root in roots]

    def value(self, expr: Expr, grid: list[Array], values: dict[int, Array], rank: int) -> Array:
        match expr:
            case Const():
                return numpy_dtype(expr.dtype).type(expr.value)
            case BatchValue():
                return np.float32(expr.at(self.batch))
            case Apply():
                return SCALAR_OPS[expr.op].reference(*(values[id(a)] for a in expr.args))
            case IndexValue():
                return np.asarray(self.index(expr.index, grid, values)).astype(np.int32)
            case Accumulator():
                array = self.accumulators[expr.number]
                return array.reshape(array.shape + (1,) * (rank - array.ndim))
            case Load():
                return self.load(expr, grid, values)
            case _:
                raise AssertionError(f"{type(expr).__name__} does not belong in a kernel")

    def load(self, load: Load, grid: list[Array], values: dict[int, Array]) -> Array:
        index = self.index(load.index, grid, values)
        source = self.buffers[load.param]
        if not load.guards:
            return self.typed(load, source[index])
        inside: Array = np.bool_(True)
        for guard in load.guards:
            inside = inside & self.holds(guard, grid, values)
        element = self.typed(load, source[np.where(inside, index, 0)])
        return np.where(inside, element, numpy_dtype(load.dtype).type(load.fill))

    def typed(self, load: Load, element: Array) -> Array:
        return element.astype(np.bool_) if load.dtype == BOOL else element

    def holds(self, guard: Guard, grid: list[Array], values: dict[int, Array]) -> Array:
        index = self.index(guard.index, grid, values)
        if isinstance(guard, InRange):
            return (index >= 0) & (index < guard.extent.at(self.batch))
        return index % guard.divisor == 0

    def index(self, index: Index, grid: list[Array], values: dict[int, Array]) -> Array:
        total: Array = np.int64(index.constant.at(self.batch))
        for atom, coefficient in index.terms:
            match atom:
                case Axis():
                    part = grid[atom.position]
                case FloorDiv():
                    part = self.index(atom.numerator, grid, values) // atom.divisor.at(self.batch)
                case Mod():
                    part = self.index(atom.numerator, grid, values) % atom.divisor.at(self.batch)
                case Value():
                    part = values[id(atom.expr)].astype(np.int64)
            total = total + part * coefficient.at(self.batch)
        return total


def reduce_rows(reduction: Reduction, rows: Array) -> Array:
    """Reduce the last axis; see graph.Reduce for NaN and ties."""
    match reduction.kind:
        case "sum":
            return rows.sum(-1, dtype=rows.dtype)
        case "prod":
            return rows.prod(-1, dtype=rows.dtype)
        case "max":
            return rows.max(-1)
        case "min":
            return rows.min(-1)
        case "argmax":
            return rows.argmax(-1).astype(np.int32)
        case "argmin":
            return rows.argmin(-1).astype(np.int32)
    raise AssertionError(reduction.kind)

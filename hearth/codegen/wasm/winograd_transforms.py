"""The transforms of Winograd convolutions on four channels at a time.

Each takes tiles apart or puts them together with matrices of `cook_toom.py`, one along columns (y)
and one along rows (x).  In the transformed domain, value p of a tile (of a pair of channels, for
weights) lies `p * point_bytes` from value 0, and channels are neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, op, select
from hearth.codegen.wasm.cook_toom import Matrix
from hearth.codegen.wasm.linear import linear
from hearth.codegen.wasm.maths import Maths, with_twin
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.opcodes import I32, V128
from hearth.codegen.wasm.strands import LANES, Run, four_runs, gather, scatter
from hearth.ir.dtype import ELEMENT_BYTES

VECTOR_BYTES = LANES * ELEMENT_BYTES
Matrices = tuple[Matrix, Matrix]  # along y and along x


@with_twin
def transform_tile(maths: Maths, matrices: Matrices, row_elements: int, plane_bytes: int,
                   point_bytes: int) -> Function:  # fmt: skip
    """One tile into the transformed domain.  Parameters: from, to, how many times four planes."""
    f = Function("transform_tile", (I32, I32, I32))
    source, target, groups = (f.param(i) for i in range(3))
    size, count = len(matrices[1]), len(matrices[1][0])
    with f.counted(groups):
        runs = four_runs(source, plane_bytes)

        def row(y: int) -> list[Local]:
            return gather(f, [run.moved(y * row_elements) for run in runs], count)

        def column(x: int, values: Sequence[Operand]) -> None:
            for y, value in enumerate(values):
                f.store("v128.store", target, value, (y * size + x) * point_bytes)

        _both_ways(f, maths, matrices[::-1], row, column)
        f.increment(source, LANES * plane_bytes)
        f.increment(target, VECTOR_BYTES)
    return maths.module.add(f)


@with_twin
def finish_tile(maths: Maths, matrices: Matrices, row_elements: int, plane_bytes: int,
                point_bytes: int) -> Function:  # fmt: skip
    """One tile of results back into planes.  Parameters: from, to, how many times four planes."""
    f = Function("finish_tile", (I32, I32, I32))
    source, target, groups = (f.param(i) for i in range(3))
    with f.counted(groups):
        runs = four_runs(target, plane_bytes)

        def row(y: int, values: Sequence[Operand]) -> None:
            own = [run.moved(y * row_elements) for run in runs]
            scatter(f, own, [f.local(value) for value in values])

        _both_ways(f, maths, matrices, _column_of(f, source, matrices, point_bytes), row)
        f.increment(source, VECTOR_BYTES)
        f.increment(target, LANES * plane_bytes)
    return maths.module.add(f)


@with_twin
def transform_weights(maths: Maths, matrices: Matrices, sources: int, source_bytes: int,
                      target_bytes: int, point_bytes: int) -> Function:  # fmt: skip
    """Filters into panels of eight targets.  Parameters: from, to, how many targets."""
    f = Function("transform_weights", (I32, I32, I32))
    first, target, targets = (f.param(i) for i in range(3))
    number, last = f.local(i32(0)), f.local(targets - 1)
    with f.counted(op("i32.shr_u", targets + (LANES - 1), 2)):
        lanes = []
        for lane in range(LANES):
            own = f.local(number + lane)  # beyond the last, the last again
            own = f.local(select(op("i32.lt_u", own, last), own, last))
            lanes.append(f.local(first + own * target_bytes))
        panel = op("i32.shr_u", number, 3) * (sources * PANEL * ELEMENT_BYTES)
        at = f.local(target + panel + op("i32.and", number, LANES) * ELEMENT_BYTES)
        with f.counted(i32(sources)):
            with f.scope():
                _transform_filter(f, maths, matrices, lanes, at, point_bytes)
            for pointer in lanes:
                f.increment(pointer, source_bytes)
            f.increment(at, PANEL * ELEMENT_BYTES)
        f.increment(number, LANES)
    return maths.module.add(f)


def _transform_filter(f: Function, maths: Maths, matrices: Matrices, lanes: Sequence[Local],
                      target: Operand, point_bytes: int) -> None:  # fmt: skip
    rows, width = (len(matrix[0]) for matrix in matrices)
    taps = gather(f, [Run(pointer, 0) for pointer in lanes], rows * width)

    def column(x: int, values: Sequence[Operand]) -> None:
        for y, value in enumerate(values):
            f.store("v128.store", target, value, (y * len(matrices[1]) + x) * point_bytes)

    _both_ways(f, maths, matrices[::-1], lambda y: taps[width * y : width * (y + 1)], column)


@with_twin
def finish_weights(maths: Maths, matrices: Matrices, groups: int, row_bytes: int, channels: int,
                   point_bytes: int) -> Function:  # fmt: skip
    """Gradients of filters back.  Parameters: from, to, how many targets.

    Where `channels` is no multiple of four, up to three filters after the last are overwritten.
    """
    f = Function("finish_weights", (I32, I32, I32))
    source, target, targets = (f.param(i) for i in range(3))
    filter_bytes = len(matrices[0]) * len(matrices[1]) * ELEMENT_BYTES
    with f.counted(targets):
        at, to = f.local(source), f.local(target)
        with f.counted(i32(groups)):
            taps: list[Local] = []

            def row(_y: int, values: Sequence[Operand], taps: list[Local] = taps) -> None:
                taps += [f.local(value, scope=f.scopes[-2]) for value in values]

            _both_ways(f, maths, matrices, _column_of(f, at, matrices, point_bytes), row)
            scatter(f, four_runs(to, filter_bytes), taps)
            f.increment(at, VECTOR_BYTES)
            f.increment(to, LANES * filter_bytes)
        f.increment(source, row_bytes)
        f.increment(target, channels * filter_bytes)
    return maths.module.add(f)


def _column_of(f: Function, source: Operand, matrices: Matrices,
               point_bytes: int) -> Callable[[int], list[Local]]:  # fmt: skip
    rows, width = (len(matrix[0]) for matrix in matrices)

    def column(x: int) -> list[Local]:
        offsets = [(y * width + x) * point_bytes for y in range(rows)]
        return [f.local(op("v128.load", source, immediate=offset)) for offset in offsets]

    return column


def _both_ways(
    f: Function,
    maths: Maths,
    matrices: Matrices,
    load: Callable[[int], Sequence[Local]],
    finish: Callable[[int, Sequence[Operand]], None],
) -> None:
    """The first matrix on each line that `load` gives, the second across; `finish` takes these."""
    first, second = matrices
    lines = [[f.local(V128) for _ in first] for _ in second[0]]
    for i, line in enumerate(lines):
        with f.scope():
            for local, value in zip(line, linear(f, maths, first, load(i)), strict=True):
                f.set(local, value)
    for i in range(len(first)):
        with f.scope():
            finish(i, linear(f, maths, second, [line[i] for line in lines]))

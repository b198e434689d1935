"""Real rows to half spectra and back, and the columns of spectra, of four channels at a time.

Two real rows are the two parts of one complex row: its transform falls apart into theirs, each of
`size / 2 + 1` frequencies.  Parting leaves twice the value: `UNSCALED` is what transforms of two
factors and back multiply a product with, beyond the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Local, Operand, f32x4, i32, op
from hearth.codegen.wasm.butterflies import (
    COMPLEX_BYTES,
    VECTOR_BYTES,
    Pass,
    filter_pass,
    load,
    passes,
    repeat,
    store,
    transform_pass,
)
from hearth.codegen.wasm.maths import Maths, with_twin
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.strands import LANES, Run, four_runs, scatter, transpose
from hearth.codegen.wasm.winograd_tiling import equal_part
from hearth.ir.dtype import ELEMENT_BYTES

UNSCALED = 4


@dataclass(frozen=True)
class Rows:
    """Real rows in memory and their half spectra; some pairs of rows are transformed at a time."""

    size: int
    pairs: int
    plane_bytes: int  # from one channel to the next
    row_bytes: int
    spectrum_bytes: int  # from one row to the next
    columns: int = 0  # that are written; of a transform all are read

    @property
    def step(self) -> int:
        """From element to element of a complex row."""
        return self.pairs * COMPLEX_BYTES

    @property
    def work_bytes(self) -> int:
        return 2 * self.size * self.step


@dataclass(frozen=True)
class Strips:
    """The columns of spectra, some at a time so that they stay in the first-level cache."""

    size: int
    columns: int  # of a strip
    count: int
    row_bytes: int  # of a row of spectra

    @staticmethod
    def of(size: int, frequencies: int, most_bytes: int) -> Strips:
        """Equal strips of so many bytes, or of two columns."""
        most = max(2, most_bytes // (size * COMPLEX_BYTES))
        columns = equal_part(frequencies, most)
        count = -(-frequencies // columns)
        return Strips(size, columns, count, columns * count * COMPLEX_BYTES)

    @property
    def strip_bytes(self) -> int:
        """Of one row of a strip that lies alone."""
        return self.columns * COMPLEX_BYTES


@with_twin
def transform_rows(maths: Maths, r: Rows) -> Function:
    """Parameters: from, to, working memory, roots, how many times all pairs."""
    f = Function("transform_rows", (I32,) * 5)
    source, target, work, roots, count = (f.param(i) for i in range(5))
    gather, part = _gather_rows(maths, r), _part(maths, r)
    with f.counted(count):
        at = f.local(work)
        with repeat(f, r.pairs):
            f.perform(f.call(gather, source, at))
            f.increment(at, COMPLEX_BYTES)
            f.increment(source, 2 * r.row_bytes)
        f.set(at, _transform_pairs(f, maths, r, work, roots, is_inverse=False))
        with repeat(f, r.pairs):
            f.perform(f.call(part, at, target))
            f.increment(at, COMPLEX_BYTES)
            f.increment(target, 2 * r.spectrum_bytes)
    return maths.module.add(f)


@with_twin
def finish_rows(maths: Maths, r: Rows, scale: float) -> Function:
    """Parameters: from, to, working memory, roots, how many rows of results."""
    f = Function("finish_rows", (I32,) * 5)
    source, target, work, roots, rows = (f.param(i) for i in range(5))
    join, scatter_ = _join(maths, r), _scatter_row(maths, r, scale)
    left = f.local(rows)
    with f.counted(op("i32.div_u", rows + (2 * r.pairs - 1), 2 * r.pairs)):
        at = f.local(work)
        with repeat(f, r.pairs):
            f.perform(f.call(join, source, at))
            f.increment(at, COMPLEX_BYTES)
            f.increment(source, 2 * r.spectrum_bytes)
        f.set(at, _transform_pairs(f, maths, r, work, roots, is_inverse=True))
        with repeat(f, 2 * r.pairs):
            with f.if_(op("i32.gt_s", left, 0)):
                f.perform(f.call(scatter_, at, target))
            f.increment(left, -1)
            f.increment(at, VECTOR_BYTES)
            f.increment(target, r.row_bytes)
    return maths.module.add(f)


def _transform_pairs(f: Function, maths: Maths, r: Rows, work: Operand, roots: Operand, *,
                     is_inverse: bool) -> Operand:  # fmt: skip
    """From the first half of the working memory; where the result is."""
    halves = (work, work + r.size * r.step)
    own = passes(r.size, is_inverse=is_inverse)
    for i, pass_ in enumerate(own):
        form = transform_pass(maths, pass_, r.step, r.step, r.pairs)
        f.perform(f.call(form, halves[i % 2], halves[(i + 1) % 2], roots))
    return halves[len(own) % 2]


@with_twin
def _gather_rows(maths: Maths, r: Rows) -> Function:
    """Two rows of four channels as one complex row.  Parameters: from, to."""
    f = Function("gather_rows", (I32, I32))
    source, target = f.param(0), f.param(1)
    with f.counted(i32(r.size // LANES)):
        for part in range(2):
            runs = [Run(source, run.offset + part * r.row_bytes)
                    for run in four_runs(source, r.plane_bytes)]  # fmt: skip
            rows = [f.local(op("v128.load", run.pointer, immediate=run.offset)) for run in runs]
            for i, vector in enumerate(transpose(f, rows)):
                f.store("v128.store", target, vector, i * r.step + part * VECTOR_BYTES)
        f.increment(source, LANES * ELEMENT_BYTES)
        f.increment(target, LANES * r.step)
    return maths.module.add(f)


@with_twin
def _scatter_row(maths: Maths, r: Rows, scale: float) -> Function:
    """One part of a complex row as rows of four channels.  Parameters: from, to."""
    f = Function("scatter_row", (I32, I32))
    source, target = f.param(0), f.param(1)

    def some(count: int) -> None:
        vectors = [f.local(op("v128.load", source, immediate=i * r.step)) for i in range(count)]
        if scale != 1:
            factor = f.local(maths.constant(scale))
            vectors = [f.local(op("f32x4.mul", factor, vector)) for vector in vectors]
        scatter(f, four_runs(target, r.plane_bytes), vectors)

    with f.counted(i32(r.columns // LANES)):
        some(LANES)
        f.increment(source, LANES * r.step)
        f.increment(target, LANES * ELEMENT_BYTES)
    if r.columns % LANES:
        some(r.columns % LANES)
    return maths.module.add(f)


@with_twin
def _part(maths: Maths, r: Rows) -> Function:
    """Twice the half spectra of two rows from their complex one.  Parameters: from, to."""
    f = Function("part_rows", (I32, I32))
    source, target = f.param(0), f.param(1)
    zero = f.local(f32x4(0))

    def real() -> None:
        for part, value in enumerate(load(f, source)):
            store(f, target, (op("f32x4.add", value, value), zero), part * r.spectrum_bytes)

    mirrored = f.local(source + r.size * r.step)
    real()
    with f.counted(i32(r.size // 2 - 1)):
        _step(f, r, source, mirrored, target)
        (x, y), (u, v) = load(f, source), load(f, mirrored)
        one = op("f32x4.add", x, u), op("f32x4.sub", y, v)
        other = op("f32x4.add", y, v), op("f32x4.sub", u, x)
        store(f, target, one)
        store(f, target, other, r.spectrum_bytes)
    _step(f, r, source, mirrored, target)
    real()
    return maths.module.add(f)


@with_twin
def _join(maths: Maths, r: Rows) -> Function:
    """The complex spectrum of two rows from their halves.  Parameters: from, to."""
    f = Function("join_rows", (I32, I32))
    source, target = f.param(0), f.param(1)

    def real() -> None:
        for part in range(2):
            value = op("v128.load", source, immediate=part * r.spectrum_bytes)
            f.store("v128.store", target, value, part * VECTOR_BYTES)

    mirrored = f.local(target + r.size * r.step)
    real()
    with f.counted(i32(r.size // 2 - 1)):
        _step(f, r, target, mirrored, source)
        (x, y), (u, v) = load(f, source), load(f, source, r.spectrum_bytes)
        store(f, target, (op("f32x4.sub", x, v), op("f32x4.add", y, u)))
        store(f, mirrored, (op("f32x4.add", x, v), op("f32x4.sub", u, y)))
    _step(f, r, target, mirrored, source)
    real()
    return maths.module.add(f)


def _step(f: Function, r: Rows, rising: Local, falling: Local, spectrum: Local) -> None:
    f.increment(rising, r.step)
    f.increment(falling, -r.step)
    f.increment(spectrum, COMPLEX_BYTES)


@with_twin
def transform_columns(maths: Maths, s: Strips, *, is_inverse: bool) -> Function:
    """All columns in place.  Parameters: spectra, working memory for two strips, roots."""
    f = Function("transform_columns", (I32,) * 3)
    spectra, work, roots = (f.param(i) for i in range(3))
    own = passes(s.size, is_inverse=is_inverse)
    with f.counted(i32(s.count)):
        _strip_passes(f, maths, s, own, spectra, work, roots)
        f.increment(spectra, s.strip_bytes)
    return maths.module.add(f)


@with_twin
def filter_columns(maths: Maths, s: Strips) -> Function:
    """All columns times conjugates of a filter's, in place, there and back.

    Parameters: spectra, the filter's, working memory for two strips, roots.
    """
    f = Function("filter_columns", (I32,) * 4)
    spectra, filter_, work, roots = (f.param(i) for i in range(4))
    forward, inverse = (passes(s.size, is_inverse=back) for back in (False, True))
    halves = (work, work + s.size * s.strip_bytes)
    product = filter_pass(maths, s.size, s.strip_bytes, s.row_bytes, s.columns)
    middle = len(forward) - 1
    with f.counted(i32(s.count)):
        for i, own in enumerate(forward[:-1]):
            step = s.row_bytes if i == 0 else s.strip_bytes
            form = transform_pass(maths, own, step, s.strip_bytes, s.columns)
            source = spectra if i == 0 else halves[(i + 1) % 2]
            f.perform(f.call(form, source, halves[i % 2], roots))
        f.perform(f.call(product, halves[(middle + 1) % 2], halves[middle % 2], filter_, roots))
        for i, own in enumerate(inverse[1:], middle + 1):
            is_last = own is inverse[-1]
            step = s.row_bytes if is_last else s.strip_bytes
            form = transform_pass(maths, own, s.strip_bytes, step, s.columns)
            target = spectra if is_last else halves[i % 2]
            f.perform(f.call(form, halves[(i + 1) % 2], target, roots))
        f.increment(spectra, s.strip_bytes)
        f.increment(filter_, s.strip_bytes)
    return maths.module.add(f)


def _strip_passes(f: Function, maths: Maths, s: Strips, own: Sequence[Pass], spectra: Local,
                  work: Operand, roots: Operand) -> None:  # fmt: skip
    halves = (work, work + s.size * s.strip_bytes)
    for i, pass_ in enumerate(own):
        is_first, is_last = i == 0, i == len(own) - 1
        steps = [s.row_bytes if ends else s.strip_bytes for ends in (is_first, is_last)]
        form = transform_pass(maths, pass_, *steps, s.columns)
        source = spectra if is_first else halves[(i + 1) % 2]
        target = spectra if is_last else halves[i % 2]
        f.perform(f.call(form, source, target, roots))

"""Products of spectra: of one channel each, and of all as three real matrix products.

A complex product with a conjugate in three real ones (Gauss):

    (x + iy) (c - is) = (p + r) + i (p + q),    p = c (x + y),  q = -(c + s) x,  r = (s - c) y

so that data and filters become three numbers each.  Source: D. Knuth, The Art of Computer
Programming, volume 2, section 4.6.4, exercise 41.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Operand, i32, op
from hearth.codegen.wasm.butterflies import COMPLEX_BYTES, Complex, load, store, times_conjugate
from hearth.codegen.wasm.maths import Maths, with_twin
from hearth.codegen.wasm.opcodes import I32

FACTORS = 3  # real products of a complex one


@dataclass(frozen=True)
class Places:
    """Rows of spectra, and where their numbers are among the operands of matrix products."""

    rows: int
    frequencies: int
    spectrum_bytes: int  # from row to row
    row_bytes: int  # the same of the numbers
    product_bytes: int  # from one product to the next


@with_twin
def spread(maths: Maths, p: Places, *, is_filter: bool) -> Function:
    """Spectra as operands.  Parameters: from, to."""
    f = Function("spread", (I32, I32))
    source, target = f.param(0), f.param(1)
    with f.counted(i32(p.rows)):
        at, to = f.local(source), f.local(target)
        with f.counted(i32(p.frequencies)):
            x, y = load(f, at)
            both = op("f32x4.add", x, y)
            numbers: tuple[Operand, ...] = (both, x, y)
            if is_filter:
                numbers = (x, op("f32x4.neg", both), op("f32x4.sub", y, x))
            for i, number in enumerate(numbers):
                f.store("v128.store", to, number, i * p.product_bytes)
            f.increment(at, COMPLEX_BYTES)
            f.increment(to, FACTORS * p.product_bytes)
        f.increment(source, p.spectrum_bytes)
        f.increment(target, p.row_bytes)
    return maths.module.add(f)


@with_twin
def collect(maths: Maths, p: Places) -> Function:
    """Products as spectra.  Parameters: from, to."""
    f = Function("collect", (I32, I32))
    source, target = f.param(0), f.param(1)
    with f.counted(i32(p.rows)):
        at, to = f.local(source), f.local(target)
        with f.counted(i32(p.frequencies)):
            first, second, third = (
                f.local(op("v128.load", at, immediate=i * p.product_bytes)) for i in range(FACTORS)
            )
            store(f, to, (op("f32x4.add", first, third), op("f32x4.add", first, second)))
            f.increment(at, FACTORS * p.product_bytes)
            f.increment(to, COMPLEX_BYTES)
        f.increment(source, p.row_bytes)
        f.increment(target, p.spectrum_bytes)
    return maths.module.add(f)


@with_twin
def filter_rows(maths: Maths, elements: int) -> Function:
    """Rows of spectra times the conjugate of one.  Parameters: rows, filter, how many rows."""
    f = Function("filter_rows", (I32,) * 3)
    spectra, filter_, rows = (f.param(i) for i in range(3))
    with f.counted(rows):
        weights = f.local(filter_)
        with f.counted(i32(elements)):
            value, weight = load(f, spectra), load(f, weights)
            store(f, spectra, times_conjugate(f, maths, value, weight))
            for pointer in (spectra, weights):
                f.increment(pointer, COMPLEX_BYTES)
    return maths.module.add(f)


@with_twin
def add_products(maths: Maths, elements: int) -> Function:
    """Adds data times conjugates of errors, row by row, to one row of sums.

    Parameters: data, errors, sums, how many rows.
    """
    f = Function("add_products", (I32,) * 4)
    data, errors, sums, rows = (f.param(i) for i in range(4))
    with f.counted(rows):
        total = f.local(sums)
        with f.counted(i32(elements)):
            (x, y), (c, s), old = load(f, data), load(f, errors), load(f, total)
            new: Complex = (
                maths.multiply_add(y, s, maths.multiply_add(x, c, old[0])),
                maths.negated_multiply_add(x, s, maths.multiply_add(y, c, old[1])),
            )
            store(f, total, new)
            for pointer in (data, errors, total):
                f.increment(pointer, COMPLEX_BYTES)
    return maths.module.add(f)

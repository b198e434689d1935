"""Discrete Fourier transforms of four complex sequences at a time, one per lane.

A complex element is two vectors, real and imaginary.  The passes are Stockham's: they need a second
place, and leave the frequencies in order.  Pass by pass, with n = radix · m · s,

    to[q + s · (radix · p + i)] = w^(p · i) · sum over k of from[q + s · (p + m · k)] r^(i · k)

for p < m and q < s, where r and w are the roots of unity of order radix and radix · m.

Source: C. Van Loan, Computational Frameworks for the Fast Fourier Transform, 1992, section 1.7.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, op, shuffle
from hearth.codegen.wasm.maths import Maths, with_twin
from hearth.codegen.wasm.opcodes import I32, V128
from hearth.ir.dtype import ELEMENT_BYTES

VECTOR_BYTES = 16
COMPLEX_BYTES = 2 * VECTOR_BYTES  # of four elements
ROOT_BYTES = 2 * ELEMENT_BYTES

Complex = tuple[Operand, Operand]


@dataclass(frozen=True)
class Pass:
    """One pass of a transform of `size` elements: see above."""

    size: int
    radix: int
    m: int
    s: int
    is_inverse: bool


@cache
def radices(size: int) -> tuple[int, ...] | None:
    """The factors of a transform, a 4 last; None where others than 2, 3, 4 and 5 remain."""
    factors: list[int] = []
    for radix in (4, 2, 3, 5):
        while size % radix == 0:
            factors.insert(0, radix)
            size //= radix
    return tuple(factors) if size == 1 else None


def passes(size: int, *, is_inverse: bool) -> list[Pass]:
    """Of a forward transform in the order of `radices`, of its inverse in the reverse order."""
    factors = radices(size)
    assert factors is not None, size
    done, s = [], 1
    for radix in reversed(factors) if is_inverse else factors:
        done.append(Pass(size, radix, size // (radix * s), s, is_inverse))
        s *= radix
    return done


def fill_roots(f: Function, table: Operand, size: int) -> None:
    """Writes cos and sin of 2 pi k / size for each k < size, from products in float64."""
    angle = 2 * math.pi / size
    at, root = f.local(table), f.local(_doubles(1.0, 0.0))
    along, across = (f.local(_doubles(*pair)) for pair in (
        (math.cos(angle),) * 2, (-math.sin(angle), math.sin(angle))
    ))  # fmt: skip
    with f.counted(i32(size)):
        pair = op("f32x4.demote_f64x2_zero", root)
        f.store("v128.store64_lane", at, pair, (0, 0))
        turned = op("f64x2.mul", shuffle(root, root, 2, 3, 0, 1), across)
        f.set(root, op("f64x2.add", op("f64x2.mul", root, along), turned))
        f.increment(at, ROOT_BYTES)


def _doubles(low: float, high: float) -> Operand:
    return Operand(V128, (("v128.const", struct.pack("<2d", low, high)),))


@with_twin
def transform_pass(maths: Maths, p: Pass, source_step: int, target_step: int,
                   columns: int) -> Function:  # fmt: skip
    """One pass of `columns` neighbouring sequences.  Parameters: from, to, table of roots.

    Elements of a sequence lie `source_step` and `target_step` bytes apart.
    """
    f = Function(f"transform_pass_{p.radix}", (I32,) * 3)
    source, target, table = (f.param(i) for i in range(3))
    walk = Walk(source_step, target_step, p.s, columns)
    roots = Roots(f, p, table)
    with repeat(f, p.m):
        roots.load()
        with walk.loops(f, source, target):
            values = [load(f, source, i * p.m * p.s * source_step) for i in range(p.radix)]
            for i, value in enumerate(butterfly(f, maths, values, is_inverse=p.is_inverse)):
                turned = roots.times(maths, i, value)
                store(f, target, turned, i * p.s * target_step)
        f.increment(target, (p.radix - 1) * p.s * target_step)
    return maths.module.add(f)


@with_twin
def filter_pass(maths: Maths, size: int, step: int, filter_step: int, columns: int) -> Function:
    """The last forward pass, the product with conjugates of a filter, the first inverse pass.

    Parameters: from, to, filter, table of roots.
    """
    forward, inverse = passes(size, is_inverse=False)[-1], passes(size, is_inverse=True)[0]
    assert forward.radix == inverse.radix
    radix, s = forward.radix, forward.s
    f = Function(f"filter_pass_{radix}", (I32,) * 4)
    source, target, filter_, table = (f.param(i) for i in range(4))
    roots = Roots(f, inverse, table)
    with repeat(f, s):
        roots.load()
        with repeat(f, columns):
            values = [load(f, source, i * s * step) for i in range(radix)]
            products = []
            for i, value in enumerate(butterfly(f, maths, values, is_inverse=False)):
                weight = load(f, filter_, i * s * filter_step)
                products.append(times_conjugate(f, maths, value, weight))
            for i, value in enumerate(butterfly(f, maths, products, is_inverse=True)):
                store(f, target, roots.times(maths, i, value), i * step)
            for pointer in (source, target, filter_):
                f.increment(pointer, COMPLEX_BYTES)
        f.increment(source, step - columns * COMPLEX_BYTES)
        f.increment(target, radix * step - columns * COMPLEX_BYTES)
        f.increment(filter_, filter_step - columns * COMPLEX_BYTES)
    return maths.module.add(f)


class Roots:
    """The roots of unity that the results of a pass are multiplied with."""

    def __init__(self, f: Function, p: Pass, table: Operand) -> None:
        self.f, self.p = f, p
        self.at = [f.local(table) for _ in range(1, p.radix)] if p.m > 1 else []
        self.own: list[Complex] = [(f.local(V128), f.local(V128)) for _ in self.at]

    def load(self) -> None:
        """Those of the next p."""
        for i, (at, pair) in enumerate(zip(self.at, self.own, strict=True), 1):
            for j, part in enumerate(pair):
                assert isinstance(part, Local)
                self.f.set(part, op("v128.load32_splat", at, immediate=j * ELEMENT_BYTES))
            self.f.increment(at, i * self.p.s * ROOT_BYTES)

    def times(self, maths: Maths, i: int, value: Complex) -> Complex:
        """The i-th result of a butterfly times its root."""
        if i == 0 or not self.own:
            return value
        root = self.own[i - 1]
        if self.p.is_inverse:
            return times(maths, value, root)
        return times_conjugate(self.f, maths, value, root)


@dataclass(frozen=True)
class Walk:
    """Over `count` elements of `columns` neighbouring sequences."""

    source_step: int
    target_step: int
    count: int
    columns: int

    @contextmanager
    def loops(self, f: Function, source: Local, target: Local) -> Iterator[None]:
        """Leaves the pointers behind the last element."""
        row = self.columns * COMPLEX_BYTES
        steps = (self.source_step, self.target_step)
        if self.columns > 1 and steps != (row, row):
            with repeat(f, self.count):
                with repeat(f, self.columns):
                    yield
                    f.increment(source, COMPLEX_BYTES)
                    f.increment(target, COMPLEX_BYTES)
                f.increment(source, self.source_step - row)
                f.increment(target, self.target_step - row)
            return
        own = (COMPLEX_BYTES,) * 2 if self.columns > 1 else steps
        with repeat(f, self.count * self.columns):
            yield
            f.increment(source, own[0])
            f.increment(target, own[1])


def repeat(f: Function, count: int) -> AbstractContextManager[object]:
    """The body `count` times."""
    return f.scope() if count == 1 else f.counted(i32(count))


def load(f: Function, at: Operand, offset: int = 0) -> Complex:
    real, imaginary = (
        f.local(op("v128.load", at, immediate=offset + j * VECTOR_BYTES)) for j in range(2)
    )
    return real, imaginary


def store(f: Function, at: Operand, value: Complex, offset: int = 0) -> None:
    for j, part in enumerate(value):
        f.store("v128.store", at, part, offset + j * VECTOR_BYTES)


def times(maths: Maths, a: Complex, b: Complex) -> Complex:
    """The product a · b; operands are locals, each part of the result is to be used once."""
    (x, y), (c, s) = a, b
    return (maths.negated_multiply_add(y, s, op("f32x4.mul", x, c)),
            maths.multiply_add(x, s, op("f32x4.mul", y, c)))  # fmt: skip


def times_conjugate(f: Function, maths: Maths, a: Complex, b: Complex) -> Complex:
    """The product of a and the conjugate of b, in locals."""
    (x, y), (c, s) = a, b
    return (f.local(maths.multiply_add(y, s, op("f32x4.mul", x, c))),
            f.local(maths.negated_multiply_add(x, s, op("f32x4.mul", y, c))))  # fmt: skip


def butterfly(f: Function, maths: Maths, values: Sequence[Complex], *,
              is_inverse: bool) -> list[Complex]:  # fmt: skip
    """The transform of 2, 3, 4 or 5 complex values, in locals."""
    form = _BUTTERFLIES[len(values)]
    return form(_Arithmetic(f, maths, is_inverse), *values)


@dataclass(frozen=True)
class _Arithmetic:
    f: Function
    maths: Maths
    is_inverse: bool

    def add(self, a: Complex, b: Complex) -> Complex:
        return self._both("f32x4.add", a, b)

    def subtract(self, a: Complex, b: Complex) -> Complex:
        return self._both("f32x4.sub", a, b)

    def _both(self, name: str, a: Complex, b: Complex) -> Complex:
        real, imaginary = (self.f.local(op(name, x, y)) for x, y in zip(a, b, strict=True))
        return real, imaginary

    def apart(self, a: Complex, b: Complex) -> tuple[Complex, Complex]:
        """The values a - i b and a + i b; the other way round in the inverse."""
        low = (self.f.local(op("f32x4.add", a[0], b[1])), self.f.local(op("f32x4.sub", a[1], b[0])))
        high = (
            self.f.local(op("f32x4.sub", a[0], b[1])),
            self.f.local(op("f32x4.add", a[1], b[0])),
        )
        return (high, low) if self.is_inverse else (low, high)

    def scaled(self, scale: float, a: Complex) -> Complex:
        factor = self.maths.constant(scale)
        real, imaginary = (self.f.local(op("f32x4.mul", factor, x)) for x in a)
        return real, imaginary

    def plus(self, total: Complex, scale: float, a: Complex) -> Complex:
        """The value total + scale · a."""
        add = self.maths.multiply_add if scale > 0 else self.maths.negated_multiply_add
        factor = self.maths.constant(abs(scale))
        real, imaginary = (self.f.local(add(factor, x, t)) for x, t in zip(a, total, strict=True))
        return real, imaginary


def _two(m: _Arithmetic, a: Complex, b: Complex) -> list[Complex]:
    return [m.add(a, b), m.subtract(a, b)]


def _three(m: _Arithmetic, a: Complex, b: Complex, c: Complex) -> list[Complex]:
    total = m.add(b, c)
    rest = m.scaled(math.sin(math.pi / 3), m.subtract(b, c))
    return [m.add(a, total), *m.apart(m.plus(a, -0.5, total), rest)]


def _four(m: _Arithmetic, a: Complex, b: Complex, c: Complex, d: Complex) -> list[Complex]:
    even, odd = m.add(a, c), m.add(b, d)
    low, high = m.apart(m.subtract(a, c), m.subtract(b, d))
    return [m.add(even, odd), low, m.subtract(even, odd), high]


def _five(m: _Arithmetic, a: Complex, b: Complex, c: Complex, d: Complex,
          e: Complex) -> list[Complex]:  # fmt: skip
    (c1, s1), (c2, s2) = ((math.cos(t), math.sin(t)) for t in (0.4 * math.pi, 0.8 * math.pi))
    outer, inner = m.add(b, e), m.add(c, d)
    apart, near = m.subtract(b, e), m.subtract(c, d)
    first, last = m.apart(
        m.plus(m.plus(a, c1, outer), c2, inner), m.plus(m.scaled(s1, apart), s2, near)
    )
    second, third = m.apart(
        m.plus(m.plus(a, c2, outer), c1, inner), m.plus(m.scaled(s2, apart), -s1, near)
    )
    return [m.add(m.add(a, outer), inner), first, second, third, last]


_BUTTERFLIES: dict[int, Callable[..., list[Complex]]] = {2: _two, 3: _three, 4: _four, 5: _five}

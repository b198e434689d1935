"""Transcendental functions on four float lanes.

Largest errors over all floats, against float64 (tests/codegen/wasm/test_scalar_ops.py): log 1
ulp, exp 1.1; sin, cos 2 (|x| < 1e6, beyond that the argument reduction loses digits); tanh 2.5;
erf 1.6.  NaN, infinities, denormals and overflow give what PyTorch gives.

Polynomials: S. Moshier, Cephes mathematical library, single precision (expf, logf, sinf, cosf).
tanh is made of exp(y) - 1 for y <= 0, which needs no second formula near 0.  Those of erf are
minimax fits: two that do not wait for each other take fewer cycles than one exponential.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from hearth.codegen.wasm.assembler import Function, Operand, f32x4, f64, i32, i32x4, op, shuffle
from hearth.codegen.wasm.module import Module
from hearth.codegen.wasm.opcodes import V128

LOG2_E = 1.44269504088896341
ROUNDER = 1.5 * 2.0**23
BIAS = 127 * 2.0**-149  # the float whose bits are the integer 127
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # high part: n * LN2_HIGH is exact
TWO_OVER_PI = 2 / math.pi
# fdlibm's pio2_1 (33 bits: n * HIGH is exact for n < 2**20) and what is left of pi/2.
PI_2_HIGH, PI_2_LOW = 1.57079632673412561417e00, 6.07710050650619224932e-11

_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
        5.0000001201e-1)  # fmt: skip
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
# erf(a) = a + a * polynomial(a*a) for a in [0, 1.07], to 3e-9 of erf(a), and
# erfc(a) = polynomial(a - 2.5) for a in [1.07, 3.94], to 3.5e-8, and 0 at 3.94.
_ERF_NEAR = (7.387731101e-5, -7.871253674e-4, 5.172864932e-3, -2.684592187e-2, 1.128340431e-1,
             -3.761261078e-1, 1.283791637e-1)  # fmt: skip
_ERFC_FAR = (8.869117569e-6, -2.112397766e-5, -6.041636882e-5, 2.793394169e-4, -2.896579079e-4,
             -5.712002532e-4, 2.821255004e-3, -6.102571199e-3, 8.613974386e-3, -8.353455898e-3,
             5.446863364e-3, -2.178060751e-3, 4.069263918e-4)  # fmt: skip
ERF_FAR, ERFC_CENTRE = 1.07, 2.5
ERF_IS_ONE, TANH_IS_ONE, EXP_IS_ZERO = 3.94, 9.5, -104.0  # from here on, to float32


@dataclass(frozen=True)
class Maths:
    """The functions of one module; each is added when it is first asked for.

    Kernels are the same with and without relaxed SIMD and call functions that are not: there
    `relaxed` is None, and `relaxed_twins` maps what they call to its twin with relaxed SIMD.
    """

    module: Module
    relaxed: bool | None = None
    relaxed_twins: dict[Function, Function] = field(default_factory=dict)
    made: dict[Hashable, Function] = field(default_factory=dict)

    def function(self, name: str) -> Function:
        """v128 -> v128, by the name of the scalar op."""
        return transcendental(self, name)

    def multiply_add(self, a: Operand, b: Operand, c: Operand) -> Operand:
        """a*b + c: in one rounding where the target has it."""
        assert self.relaxed is not None, "the function needs a twin"
        if self.relaxed:
            return op("f32x4.relaxed_madd", a, b, c)
        return op("f32x4.add", op("f32x4.mul", a, b), c)

    def negated_multiply_add(self, a: Operand, b: Operand, c: Operand) -> Operand:
        """The value c - a*b."""
        assert self.relaxed is not None, "the function needs a twin"
        if self.relaxed:
            return op("f32x4.relaxed_nmadd", a, b, c)
        return op("f32x4.sub", c, op("f32x4.mul", a, b))

    def constant(self, value: float) -> Operand:
        """A float in all four lanes, from memory: V8 needs three instructions for a literal.

        Measured: exp takes 15 cycles with its constants in memory, and 27 with literals.
        """
        address = self.module.constant_address(struct.pack("<f", value))
        if address is None:
            return f32x4(value)
        return op("v128.load32_splat", i32(0), immediate=address)

    def polynomial(self, f: Function, x: Operand, coefficients: Sequence[float]) -> Operand:
        """By pairs of powers, highest first: half as long a chain of operations as Horner's rule.

        Measured with the chains of Horner's rule: erf takes 27 cycles, tanh 17, exp 15.
        """
        count = len(coefficients)
        square = f.local(op("f32x4.mul", x, x)) if count > 2 else x
        c = [self.constant(value) for value in coefficients]
        total = f.local(c[0] if count % 2 else self.multiply_add(c[0], x, c[1]))
        for i in range(2 - count % 2, count, 2):
            pair = self.multiply_add(c[i], x, c[i + 1])
            f.set(total, self.multiply_add(total, square, pair))
        return total


def with_twin(make: Callable[..., Function]) -> Callable[..., Function]:
    """For `make(maths, ...)`, a function that uses relaxed SIMD where it may: makes both of it."""

    @wraps(make)
    def function(maths: Maths, *args: Any, **options: Any) -> Function:
        key = (make, maths.relaxed, args, *sorted(options.items()))
        if key not in maths.made:
            if maths.relaxed is None:
                plain, relaxed = (
                    function(replace(maths, relaxed=choice), *args, **options)
                    for choice in (False, True)
                )
                maths.made[key] = plain
                maths.relaxed_twins[plain] = relaxed
            else:
                maths.made[key] = make(maths, *args, **options)
        return maths.made[key]

    return function


@with_twin
def transcendental(maths: Maths, name: str) -> Function:
    function = Function(f"maths.{name}", (V128,), V128)
    function.result(FUNCTIONS[name](maths, function, function.param(0)))
    return maths.module.add(function)


def _exp(m: Maths, f: Function, x: Operand) -> Operand:
    # Masked scores are minus infinity.  Not for their 16 cycles alone: a product that is no normal
    # number takes the processor 40 more.
    value = f.local(f32x4(0.0))
    with f.if_(op("i32.eqz", op("i32x4.all_true", op("f32x4.le", x, m.constant(EXP_IS_ZERO))))):
        f.set(value, _exp_above(m, f, x))
    return value


def _exp_above(m: Maths, f: Function, x: Operand) -> Operand:
    # exp(x) = 2**n * exp(r), |r| <= ln2/2; pmin and pmax keep a NaN in their first operand.
    x = f.local(op("f32x4.pmin", op("f32x4.pmax", x, m.constant(EXP_IS_ZERO)), m.constant(89.0)))
    # Added to 1.5 * 2**23, a number of this size loses its fraction and lies in the low bits.
    rounder = f.local(m.constant(ROUNDER))
    shifted = f.local(m.multiply_add(x, m.constant(LOG2_E), rounder))
    n = f.local(op("f32x4.sub", shifted, rounder))
    r = f.local(m.negated_multiply_add(n, m.constant(LN2_HIGH), x))
    f.set(r, m.negated_multiply_add(n, m.constant(LN2_LOW), r))
    p = m.polynomial(f, r, _EXP)
    value = op("f32x4.add", m.multiply_add(p, op("f32x4.mul", r, r), r), m.constant(1.0))
    # 2**n in two factors: n reaches 128 at the top and -150 among the denormals.  The first is
    # added to the exponent, which stays within its range.
    whole = f.local(op("i32x4.sub", shifted, rounder))
    half = f.local(op("i32x4.shr_s", whole, 1))
    value = op("i32x4.add", value, op("i32x4.shl", half, 23))
    rest = op("i32x4.add", op("i32x4.sub", whole, half), m.constant(BIAS))
    return op("f32x4.mul", value, op("i32x4.shl", rest, 23))


def _log(m: Maths, f: Function, x: Operand) -> Operand:
    # x = 2**e * z with z in [sqrt(1/2), sqrt(2)); denormals are scaled up first.
    small = f.local(op("f32x4.lt", x, m.constant(2.0**-126)))
    scaled = f.local(op("v128.bitselect", op("f32x4.mul", x, m.constant(2.0**24)), x, small))
    exponent = op("i32x4.sub", op("i32x4.shr_u", scaled, 23), i32x4(126))
    mantissa = op("v128.and", scaled, i32x4(0x007FFFFF))
    z = f.local(op("v128.or", mantissa, i32x4(0x3F000000)))
    low = f.local(op("f32x4.lt", z, m.constant(0.707106781186547524)))
    e = f.local(op("f32x4.convert_i32x4_s", exponent))
    f.set(e, op("f32x4.sub", e, op("v128.and", m.constant(1.0), low)))
    f.set(e, op("f32x4.sub", e, op("v128.and", m.constant(24.0), small)))
    f.set(z, op("f32x4.sub", op("f32x4.add", z, op("v128.and", z, low)), m.constant(1.0)))
    square = f.local(op("f32x4.mul", z, z))
    p = m.polynomial(f, z, _LOG)
    y = f.local(op("f32x4.mul", op("f32x4.mul", p, z), square))
    f.set(y, m.multiply_add(e, m.constant(LN2_LOW), y))
    f.set(y, m.negated_multiply_add(m.constant(0.5), square, y))
    value = f.local(m.multiply_add(e, m.constant(LN2_HIGH), op("f32x4.add", z, y)))
    special = f.local(
        op("v128.bitselect", m.constant(-math.inf), m.constant(math.nan), _eq(x, 0.0))
    )
    f.set(special, op("v128.bitselect", x, special, _eq(x, math.inf)))
    ordinary = op(
        "v128.and", op("f32x4.gt", x, m.constant(0.0)), op("f32x4.lt", x, m.constant(math.inf))
    )
    return op("v128.bitselect", value, special, ordinary)


def _eq(x: Operand, value: float) -> Operand:
    return op("f32x4.eq", x, f32x4(value))


def _exp_minus_one(m: Maths, f: Function, y: Operand) -> Operand:
    """exp(y) - 1 for y in [-80, 0], with a small relative error near 0, too."""
    # exp(y) = 2**n * (1 + q): the product of 2**n and q and the difference 2**n - 1 are exact.
    shifted = f.local(m.multiply_add(y, m.constant(LOG2_E), m.constant(ROUNDER)))
    n = f.local(op("f32x4.sub", shifted, m.constant(ROUNDER)))
    r = f.local(m.negated_multiply_add(n, m.constant(LN2_HIGH), y))
    f.set(r, m.negated_multiply_add(n, m.constant(LN2_LOW), r))
    q = m.multiply_add(m.polynomial(f, r, _EXP), op("f32x4.mul", r, r), r)
    scale = f.local(op("i32x4.add", op("i32x4.shl", shifted, 23), m.constant(1.0)))
    return m.multiply_add(q, scale, op("f32x4.sub", scale, m.constant(1.0)))


def _tanh(m: Maths, f: Function, x: Operand) -> Operand:
    a = op("f32x4.pmin", op("f32x4.abs", x), m.constant(TANH_IS_ONE))
    e = f.local(_exp_minus_one(m, f, f.local(op("f32x4.mul", a, m.constant(-2.0)))))
    value = op("f32x4.div", e, op("f32x4.sub", m.constant(-2.0), e))
    return op("v128.or", value, _sign(x))


def _sign(x: Operand) -> Operand:
    return op("v128.and", x, i32x4(0x80000000))


def _erf(m: Maths, f: Function, x: Operand) -> Operand:
    a = f.local(op("f32x4.abs", x))
    is_near = f.local(op("f32x4.lt", a, m.constant(ERF_FAR)))
    square = f.local(op("f32x4.mul", a, a))
    near = f.local(m.multiply_add(m.polynomial(f, square, _ERF_NEAR), a, a))
    offset = op("f32x4.pmin", a, m.constant(ERF_IS_ONE))
    offset = f.local(op("f32x4.sub", offset, m.constant(ERFC_CENTRE)))
    far = op("f32x4.sub", m.constant(1.0), m.polynomial(f, offset, _ERFC_FAR))
    return op("v128.or", op("v128.bitselect", near, far, is_near), _sign(x))


def _sin(m: Maths, f: Function, x: Operand) -> Operand:
    return _sine(m, f, x, 0)


def _cos(m: Maths, f: Function, x: Operand) -> Operand:
    return _sine(m, f, x, 1)


def _sine(m: Maths, f: Function, x: Operand, turn: int) -> Operand:
    """sin(x + turn * pi/2): the reduced argument and quadrant in float64, the rest in float32."""
    low = _reduced(f, op("f64x2.promote_low_f32x4", x))
    high = _reduced(f, op("f64x2.promote_low_f32x4", shuffle(x, x, 2, 3, 2, 3)))
    r = f.local(_joined(low[0], high[0]))
    # Far beyond the range of the reduction the result still stays within [-1, 1].
    f.set(r, op("f32x4.pmax", op("f32x4.pmin", r, f32x4(0.7854)), f32x4(-0.7854)))
    quadrant = op("i32x4.trunc_sat_f32x4_s", _joined(low[1], high[1]))
    n = f.local(op("i32x4.add", quadrant, i32x4(turn)))
    square = f.local(op("f32x4.mul", r, r))
    sine = m.polynomial(f, square, _SIN)
    sine = f.local(m.multiply_add(op("f32x4.mul", sine, square), r, r))
    cosine = m.polynomial(f, square, _COS)
    tail = op("f32x4.mul", op("f32x4.mul", cosine, square), square)
    cosine = f.local(op("f32x4.add", m.negated_multiply_add(f32x4(0.5), square, tail), f32x4(1.0)))
    odd = op("i32x4.ne", op("v128.and", n, i32x4(1)), i32x4(0))
    sign = op("i32x4.shl", op("v128.and", n, i32x4(2)), 30)
    value = op("v128.xor", op("v128.bitselect", cosine, sine, odd), sign)
    finite = op("f32x4.lt", op("f32x4.abs", x), f32x4(math.inf))
    return op("v128.bitselect", value, f32x4(math.nan), finite)


def _reduced(f: Function, x: Operand) -> tuple[Operand, Operand]:
    """Two lanes: x - n*pi/2 and n mod 4, with n the nearest integer to x / (pi/2)."""
    x = f.local(x)

    def scaled(value: Operand, factor: float) -> Operand:
        return op("f64x2.mul", value, op("f64x2.splat", f64(factor)))

    n = f.local(op("f64x2.nearest", scaled(x, TWO_OVER_PI)))
    r = op("f64x2.sub", op("f64x2.sub", x, scaled(n, PI_2_HIGH)), scaled(n, PI_2_LOW))
    whole = scaled(op("f64x2.floor", scaled(n, 0.25)), 4.0)
    return f.local(r), f.local(op("f64x2.sub", n, whole))


def _joined(low: Operand, high: Operand) -> Operand:
    """Four floats of two pairs of doubles."""
    narrow = "f32x4.demote_f64x2_zero"
    return shuffle(op(narrow, low), op(narrow, high), 0, 1, 4, 5)


FUNCTIONS: dict[str, Callable[[Maths, Function, Operand], Operand]] = {
    "exp": _exp,
    "log": _log,
    "tanh": _tanh,
    "erf": _erf,
    "sin": _sin,
    "cos": _cos,
}

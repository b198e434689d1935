"""How each scalar op is spelled on one value and on four lanes.

An op that is not here is expanded into ones that are (`scalar.expand`).  A bool is 0 or 1 as a
scalar, and a mask (0 or all ones) in each lane of a vector.

Kinds of operands: f float32, i int32, u uint32, b bool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hearth.codegen.wasm import division
from hearth.codegen.wasm.assembler import (
    Function,
    Operand,
    f32,
    f32x4,
    i32,
    i32x4,
    i64,
    op,
    select,
    shuffle,
)
from hearth.codegen.wasm.maths import FUNCTIONS, Maths
from hearth.codegen.wasm.opcodes import F32, I32, V128
from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32

KINDS = {FLOAT32: "f", INT32: "i", UINT32: "u", BOOL: "b"}

# op, kinds, instruction on scalars, instruction on lanes.
_TABLE = """
add f f32.add f32x4.add | add iu i32.add i32x4.add | add b i32.or v128.or
sub f f32.sub f32x4.sub | sub iu i32.sub i32x4.sub
mul f f32.mul f32x4.mul | mul iu i32.mul i32x4.mul | mul b i32.and v128.and
div f f32.div f32x4.div
neg f f32.neg f32x4.neg | abs f f32.abs f32x4.abs
maximum f f32.max f32x4.max | minimum f f32.min f32x4.min
maximum b i32.or v128.or | minimum b i32.and v128.and
sqrt f f32.sqrt f32x4.sqrt | floor f f32.floor f32x4.floor | ceil f f32.ceil f32x4.ceil
trunc f f32.trunc f32x4.trunc | round f f32.nearest f32x4.nearest
eq f f32.eq f32x4.eq | ne f f32.ne f32x4.ne | lt f f32.lt f32x4.lt | le f f32.le f32x4.le
gt f f32.gt f32x4.gt | ge f f32.ge f32x4.ge
eq iub i32.eq i32x4.eq | ne iub i32.ne i32x4.ne
lt i i32.lt_s i32x4.lt_s | le i i32.le_s i32x4.le_s
gt i i32.gt_s i32x4.gt_s | ge i i32.ge_s i32x4.ge_s
lt u i32.lt_u i32x4.lt_u | le u i32.le_u i32x4.le_u
gt u i32.gt_u i32x4.gt_u | ge u i32.ge_u i32x4.ge_u
lt b i32.lt_u i32x4.gt_s | le b i32.le_u i32x4.ge_s
gt b i32.gt_u i32x4.lt_s | ge b i32.ge_u i32x4.le_s
and b i32.and v128.and | or b i32.or v128.or | not b i32.eqz v128.not
bit_and iub i32.and v128.and | bit_or iub i32.or v128.or | bit_xor iub i32.xor v128.xor
to_int32 f i32.trunc_sat_f32_s i32x4.trunc_sat_f32x4_s
to_uint32 f i32.trunc_sat_f32_u i32x4.trunc_sat_f32x4_u
to_float32 i f32.convert_i32_s f32x4.convert_i32x4_s
to_float32 u f32.convert_i32_u f32x4.convert_i32x4_u
"""

SIMPLE: dict[tuple[str, str], tuple[str, str]] = {
    (name, kind): (scalar, lanes)
    for row in _TABLE.replace("|", "\n").splitlines()
    if row.strip()
    for name, kinds, scalar, lanes in [row.split()]
    for kind in kinds
}

_IDENTITIES = {("to_int32", "u"), ("to_uint32", "i"), ("abs", "u"), ("to_int32", "i"),
               ("to_uint32", "u"), ("to_float32", "f"), ("to_bool", "b")}  # fmt: skip
_ROUNDING = ("floor", "ceil", "trunc", "round")


@dataclass(frozen=True)
class Speller:
    """Spells ops inside one function."""

    function: Function
    maths: Maths

    def apply(self, name: str, dtype: str, operands: Sequence[Operand]) -> Operand:
        """The value of an op; its operands are all scalars or all vectors, the last of `dtype`."""
        kind = KINDS[dtype]
        is_vector = operands[-1].type == V128
        row = SIMPLE.get((name, kind))
        if row is not None:
            return op(row[is_vector], *operands)
        if (name, kind) in _IDENTITIES or (name in _ROUNDING and kind != "f"):
            return operands[0]
        if name in FUNCTIONS:
            return self._transcendental(name, operands[0])
        return SPECIAL[name](self, kind, is_vector, operands)

    def _transcendental(self, name: str, x: Operand) -> Operand:
        function = self.maths.function(name)
        if x.type == V128:
            return self.function.call(function, x)
        value = self.function.call(function, op("f32x4.splat", x))
        return op("f32x4.extract_lane", value, immediate=0)

    def lane_by_lane(self, compute: Callable[..., Operand], operands: Sequence[Operand]) -> Operand:
        """An integer op that has no vector instruction."""
        inputs = [self.function.local(o) for o in operands]
        result = self.function.local(V128)
        for lane in range(4):
            parts = [op("i32x4.extract_lane", x, immediate=lane) for x in inputs]
            value = compute(*parts)
            update = op("i32x4.replace_lane", result, value, immediate=lane)
            self.function.set(result, update if lane else op("i32x4.splat", value))
        return result


Spelling = Callable[[Speller, str, bool, Sequence[Operand]], Operand]


def _where(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    condition, if_true, if_false = o
    if is_vector:
        return op("v128.bitselect", if_true, if_false, condition)
    return select(condition, if_true, if_false)


def _neg(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    return op("i32x4.neg", o[0]) if is_vector else op("i32.sub", i32(0), o[0])


def _abs(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    if is_vector:
        return op("i32x4.abs", o[0])
    return select(op("i32.lt_s", o[0], 0), op("i32.sub", i32(0), o[0]), o[0])


def _extremum(name: str, scalar: str) -> Spelling:
    def spell(s: Speller, kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
        suffix = "u" if kind == "u" else "s"
        if is_vector:
            return op(f"i32x4.{name}_{suffix}", *o)
        return select(op(f"i32.{scalar}_{suffix}", *o), o[0], o[1])

    return spell


def _shift(name: str) -> Spelling:
    def spell(s: Speller, kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
        suffix = "" if name == "shl" else "_u" if kind == "u" else "_s"
        if not is_vector:
            return op(f"i32.{name}{suffix}", *o)
        amount = uniform_constant(o[1])
        if amount is not None:
            return op(f"i32x4.{name}{suffix}", o[0], amount)
        return s.lane_by_lane(lambda a, b: op(f"i32.{name}{suffix}", a, b), o)

    return spell


def uniform_constant(vector: Operand) -> int | None:
    """The integer in all lanes of a vector constant."""
    if len(vector.code) != 1 or vector.code[0][0] != "v128.const":
        return None
    lanes: bytes = vector.code[0][1]
    return int.from_bytes(lanes[:4], "little", signed=True) if lanes == lanes[:4] * 4 else None


def _mul_high(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    if is_vector:
        low = op("i64x2.extmul_low_i32x4_u", *o)
        return shuffle(low, op("i64x2.extmul_high_i32x4_u", *o), 1, 3, 5, 7)
    wide = op("i64.mul", *(op("i64.extend_i32_u", x) for x in o))
    return op("i32.wrap_i64", op("i64.shr_u", wide, i64(32)))


def _to_bool(_s: Speller, kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    if kind == "f":
        return op("f32x4.ne", o[0], f32x4(0)) if is_vector else op("f32.ne", o[0], f32(0))
    return op("i32x4.ne", o[0], i32x4(0)) if is_vector else op("i32.ne", o[0], 0)


def _bool_to_int(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    return op("v128.and", o[0], i32x4(1)) if is_vector else o[0]


def _bool_to_float(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    return op("v128.and", o[0], f32x4(1)) if is_vector else op("f32.convert_i32_s", o[0])


def _is_nan(s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    x = s.function.local(o[0])
    return op("f32x4.ne" if is_vector else "f32.ne", x, x)


def _reinterpreted(instruction: str) -> Spelling:
    def spell(_s: Speller, _kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
        return o[0] if is_vector else op(instruction, o[0])

    return spell


def _floor_div(s: Speller, kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    if kind == "f":
        return _float_floor_div(s, is_vector, o)
    divisor = uniform_constant(o[1]) if is_vector else o[1].constant
    if kind == "i" and divisor is not None and divisor > 0 and divisor & (divisor - 1) == 0:
        power = divisor.bit_length() - 1
        return op("i32x4.shr_s" if is_vector else "i32.shr_s", o[0], power)
    divide = division.lanes(s.maths, kind) if is_vector else division.scalar(s.maths, kind)
    return s.function.call(divide, *o)


def _remainder(s: Speller, kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
    """Integers: a - floor(a / b) * b, with the sign of b."""
    divisor = uniform_constant(o[1]) if is_vector else o[1].constant
    if divisor is not None and divisor > 0 and divisor & (divisor - 1) == 0:
        mask = i32x4(divisor - 1) if is_vector else i32(divisor - 1)
        return op("v128.and" if is_vector else "i32.and", o[0], mask)
    a, b = (s.function.local(x) for x in o)
    quotient = _floor_div(s, kind, is_vector, (a, b))
    if is_vector:
        return op("i32x4.sub", a, op("i32x4.mul", quotient, b))
    return a - quotient * b


def _float_floor_div(s: Speller, is_vector: bool, o: Sequence[Operand]) -> Operand:
    divide = division.floats(s.maths)
    if is_vector:
        return s.function.call(divide, *o)
    value = s.function.call(divide, *(op("f32x4.splat", x) for x in o))
    return op("f32x4.extract_lane", value, immediate=0)


def _casts(of_bool: Spelling) -> Spelling:
    def spell(s: Speller, kind: str, is_vector: bool, o: Sequence[Operand]) -> Operand:
        assert kind == "b", kind
        return of_bool(s, kind, is_vector, o)

    return spell


SPECIAL: dict[str, Spelling] = {
    "where": _where,
    "neg": _neg,
    "abs": _abs,
    "maximum": _extremum("max", "gt"),
    "minimum": _extremum("min", "lt"),
    "shift_left": _shift("shl"),
    "shift_right": _shift("shr"),
    "mul_high": _mul_high,
    "floor_div": _floor_div,
    "remainder": _remainder,
    "is_nan": _is_nan,
    "bits_of_float": _reinterpreted("i32.reinterpret_f32"),
    "float_of_bits": _reinterpreted("f32.reinterpret_i32"),
    "to_bool": _to_bool,
    "to_int32": _casts(_bool_to_int),
    "to_uint32": _casts(_bool_to_int),
    "to_float32": _casts(_bool_to_float),
}

_NAMES = frozenset({name for name, _ in SIMPLE} | set(FUNCTIONS) | set(SPECIAL))


def is_spelled(name: str, dtype: str) -> bool:
    """Whether an op on operands of this type needs no expansion."""
    return name in _NAMES and (name, dtype) != ("remainder", FLOAT32)


LOADS = {FLOAT32: ("f32.load", F32), INT32: ("i32.load", I32), UINT32: ("i32.load", I32),
         BOOL: ("i32.load", I32)}  # fmt: skip

"""How WGSL writes each scalar op, literal and reduction.

Rows are templates: `{0}`, `{1}`, … are operands; a key `op.dtype` (of the last operand) wins over
`op`.  Ops without a row are expanded (`hearth.ir.scalar.expand`).  Functions named here that WGSL
does not have come from `library.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32

TYPES = {FLOAT32: "f32", INT32: "i32", UINT32: "u32", BOOL: "bool"}
STORED_TYPES = {**TYPES, BOOL: "i32"}  # a bool is not host-shareable: it is stored as 0 or 1

SPELLING: dict[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "floor_div.int32": "floor_quotient({0}, {1})",
    "floor_div.uint32": "{0} / max({1}, 1u)",
    "floor_div.float32": "floor_of_ratio({0}, {1})",
    "fmod.int32": "{0} % nonzero({1})",
    "fmod.uint32": "{0} % max({1}, 1u)",
    "remainder.int32": "floor_rest({0}, {1})",
    "remainder.uint32": "{0} % max({1}, 1u)",
    "neg": "-{0}",
    "neg.uint32": "0u - {0}",
    "abs": "abs({0})",
    "maximum": "max({0}, {1})",
    "maximum.float32": "maximum({0}, {1})",
    "maximum.bool": "{0} | {1}",
    "minimum": "min({0}, {1})",
    "minimum.float32": "minimum({0}, {1})",
    "minimum.bool": "{0} & {1}",
    "sqrt": "sqrt({0})",
    "exp": "exponential({0})",
    "log": "logarithm({0})",
    "log1p": "logarithm_of_sum({0})",
    "sin": "sine({0})",
    "cos": "cosine({0})",
    "floor": "floor({0})",
    "ceil": "ceil({0})",
    "trunc": "trunc({0})",
    "round": "round({0})",
    "is_nan": "is_nan({0})",
    "bits_of_float": "bitcast<u32>({0})",
    "float_of_bits": "from_bits({0})",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "ne.float32": "!({0} == {1})",  # naga compiles `!=` so that it is false for NaN
    "lt": "({0} < {1})",  # `a < b, c > d` would be the template a<b, c>
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "lt.bool": "(u32({0}) < u32({1}))",
    "le.bool": "u32({0}) <= u32({1})",
    "gt.bool": "u32({0}) > u32({1})",
    "ge.bool": "u32({0}) >= u32({1})",
    "and": "bool({0}) & bool({1})",
    "and.bool": "{0} & {1}",
    "or": "bool({0}) | bool({1})",
    "or.bool": "{0} | {1}",
    "not": "!bool({0})",
    "not.bool": "!{0}",
    "where": "select({2}, {1}, {0})",
    "bit_and": "{0} & {1}",
    "bit_or": "{0} | {1}",
    "bit_xor": "{0} ^ {1}",
    "bit_xor.bool": "{0} != {1}",
    "shift_left": "{0} << {1}",
    "shift_left.int32": "{0} << u32({1})",
    "shift_right": "{0} >> {1}",
    "shift_right.int32": "{0} >> u32({1})",
    "mul_high": "mul_high({0}, {1})",
    "random": "philox({0}, {1}, {2}, {3}, {4})",
    "to_float32": "f32({0})",
    "to_int32": "i32({0})",
    "to_int32.float32": "saturate_i32({0})",
    "to_uint32": "u32({0})",
    "to_uint32.float32": "saturate_u32({0})",
    "to_bool": "bool({0})",
    "to_bool.float32": "!({0} == 0.0)",
}


def row(op: str, dtype: str) -> str | None:
    """The template of an op whose last operand has this type, or None: expand it."""
    return SPELLING.get(f"{op}.{dtype}") or SPELLING.get(op)


_LARGEST = float(np.finfo(np.float32).max)


def literal(value: float | bool, dtype: str) -> str:
    """A constant; infinities and NaN are made from bits at run time."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype == UINT32:
        return f"{int(value) & 0xFFFFFFFF}u"
    if dtype == INT32:
        whole = int(value)
        return f"{whole}" if whole > -(2**31) else "i32(-2147483648)"
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if math.isfinite(single):
        text = str(single)
        if abs(float(text)) > _LARGEST:  # the shortest decimal may lie above what it rounds to
            text = repr(float(single))
        return text if set(text) & set(".e") else f"{text}.0"
    return f"from_bits(0x{int(single.view(np.uint32)):08x}u)"


@dataclass(frozen=True)
class Fold:
    """A reduction: the value it starts from, and how two partial results combine."""

    start: dict[str, float | bool]
    combine: str  # a scalar op


FOLDS: dict[str, Fold] = {
    "sum": Fold({FLOAT32: 0.0, INT32: 0, UINT32: 0}, "add"),
    "prod": Fold({FLOAT32: 1.0, INT32: 1, UINT32: 1, BOOL: True}, "mul"),
    "max": Fold({FLOAT32: -math.inf, INT32: -(2**31), UINT32: 0, BOOL: False}, "maximum"),
    "min": Fold({FLOAT32: math.inf, INT32: 2**31 - 1, UINT32: 2**32 - 1, BOOL: True}, "minimum"),
}

# Ties go to the smaller position; a lane without elements holds the largest position.
POSITIONED = {"argmax": ("max", "is_larger"), "argmin": ("min", "is_smaller")}
NOWHERE = "2147483647"

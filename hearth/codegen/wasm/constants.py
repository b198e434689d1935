"""Constants of scalar expressions, as scalars and as four lanes."""

from __future__ import annotations

import numpy as np

from hearth.codegen.wasm.assembler import Operand, f32, f32x4, i32, i32x4, op
from hearth.ir.dtype import BOOL, FLOAT32
from hearth.ir.expr import Const
from hearth.ir.kernel import Load


def scalar_constant(const: Const) -> Operand:
    if const.dtype == FLOAT32:
        return f32(as_float32(const.value))
    return i32(int(const.value))


def vector_constant(const: Const) -> Operand:
    if const.dtype == FLOAT32:
        return f32x4(as_float32(const.value))
    return i32x4(-int(const.value) if const.dtype == BOOL else int(const.value))


def raw_fill(load: Load) -> Operand:
    """The fill as it would lie in memory (a bool is 0 or 1 there)."""
    if load.dtype == BOOL:
        return i32x4(int(load.fill))
    return vector_constant(Const(load.dtype, load.fill))


def spread(value: Operand, dtype: str) -> Operand:
    """A scalar in all lanes."""
    if dtype == FLOAT32:
        return op("f32x4.splat", value)
    if dtype == BOOL:
        return op("i32x4.splat", op("i32.sub", i32(0), value))
    return op("i32x4.splat", value)


def as_float32(value: float) -> float:
    """Rounded to float32: struct refuses values that overflow."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))

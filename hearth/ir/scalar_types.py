"""Which element types a scalar op takes; the verifier's rule for expressions."""

from __future__ import annotations

from hearth.ir.dtype import BOOL, DTYPES, FLOAT32, INT32, UINT32
from hearth.ir.scalar import SAME, SCALAR_OPS, Apply

_ARITHMETIC = ("add", "sub", "mul", "div", "floor_div", "fmod", "remainder", "neg", "abs",
               "maximum", "minimum", "sign", "pow", "lt", "le", "gt", "ge")  # fmt: skip
_INTEGER_ONLY = ("bit_and", "bit_or", "bit_xor", "shift_left", "shift_right")
_LOGICAL = ("and", "or", "not")
_ANY = ("eq", "ne")
_UNSIGNED = ("mul_high", "random", "float_of_bits")


def operands_allowed(op: str) -> tuple[str, ...]:
    """The element types that an op takes (`where` looks at its last two operands only)."""
    if op.startswith("to_") or op in (*_ANY, "where"):
        return DTYPES
    if op in _LOGICAL:
        return (BOOL,)
    if op in _INTEGER_ONLY:
        return (INT32, UINT32)
    if op in _UNSIGNED:
        return (UINT32,)
    return (FLOAT32, INT32, UINT32) if op in _ARITHMETIC else (FLOAT32,)


def is_well_typed(expr: Apply) -> bool:
    row = SCALAR_OPS.get(expr.op)
    if row is None or len(expr.args) != row.arity:
        return False
    types = [a.dtype for a in expr.args]
    if expr.op == "where" and types.pop(0) != BOOL:
        return False
    result = types[-1] if row.result == SAME else row.result
    one_type = len(set(types)) == 1
    return one_type and types[0] in operands_allowed(expr.op) and expr.dtype == result

"""Shorter scalar expressions with the same meaning, before and after fusion.

Rows are bottom-up rewrites.  None changes a result beyond rounding, and where one rounds
differently it is the more accurate (`1 - base**y`).  What this is not: common sub-expression
elimination across nodes, or anything that knows of loops and memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from hearth.ir.dtype import FLOAT32, numpy_dtype
from hearth.ir.scalar import SCALAR_OPS, Apply, Const, Expr, apply, rewrite

_IDEMPOTENT = ("abs", "floor", "ceil", "trunc", "round", "sign", "round_float16", "round_bfloat16")


def simplify(roots: Iterable[Expr]) -> list[Expr]:
    """The same expressions, simplified; sharing between the roots is kept."""
    roots = rewrite(roots, _basic)
    roots = rewrite(roots, _one_minus_power)  # before pow is rewritten away
    return rewrite(rewrite(roots, _power), _basic)


def _basic(expr: Expr) -> Expr:
    if not isinstance(expr, Apply):
        return expr
    for rule in (_fold, _cast, _identity, _double, _select, _exact_division):
        simpler = rule(expr)
        if simpler is not None:
            return simpler
    return expr


def _fold(expr: Apply) -> Expr | None:
    """An op of constants is a constant (computed in the device's type)."""
    values = [_value(a) for a in expr.args]
    if any(v is None for v in values) or expr.op == "random":
        return None
    typed = [np.asarray(v, numpy_dtype(a.dtype)) for v, a in zip(values, expr.args, strict=True)]
    with np.errstate(all="ignore"):
        result = np.asarray(SCALAR_OPS[expr.op].reference(*typed))
    return Const(expr.dtype, result.astype(numpy_dtype(expr.dtype)).item())


def _cast(expr: Apply) -> Expr | None:
    """A cast to the type it has already; bool -> number -> bool."""
    if not expr.op.startswith("to_"):
        return None
    (x,) = expr.args
    if x.dtype == expr.dtype:
        return x
    is_round_trip = isinstance(x, Apply) and x.op.startswith("to_") and expr.dtype == "bool"
    if is_round_trip and isinstance(x, Apply) and x.args[0].dtype == "bool":
        return x.args[0]
    return None


def _identity(expr: Apply) -> Expr | None:
    """x·1, x/1, x-0, and x+0 for integers (for floats it would turn -0 into +0's sign)."""
    match expr.op, expr.args:
        case "mul", (x, y) if _is(y, 1):
            return x
        case "mul", (x, y) if _is(x, 1):
            return y
        case "div", (x, y) if _is(y, 1):
            return x
        case "sub", (x, y) if _is(y, 0) and not _is_negative_zero(y):
            return x
        case "add", (x, y) if _is(y, 0) and (x.dtype != FLOAT32 or _is_negative_zero(y)):
            return x
        case "add", (x, y) if _is(x, 0) and (x.dtype != FLOAT32 or _is_negative_zero(x)):
            return y
    return None


def _double(expr: Apply) -> Expr | None:
    """-(-x), not not x, abs of a negation or of abs; idempotent ops."""
    if len(expr.args) != 1 or not isinstance(expr.args[0], Apply):
        return None
    inner = expr.args[0]
    if expr.op in ("neg", "not") and inner.op == expr.op:
        return inner.args[0]
    if expr.op == inner.op and expr.op in _IDEMPOTENT:
        return inner
    if expr.op == "abs" and inner.op == "neg":
        return apply("abs", inner.args[0])
    return None


def _select(expr: Apply) -> Expr | None:
    """A choice that is known, or between the same thing."""
    if expr.op != "where":
        return _logic(expr)
    condition, yes, no = expr.args
    known = _value(condition)
    if known is not None:
        return yes if known else no
    same_constant = _value(yes) is not None and repr(_value(yes)) == repr(_value(no))
    return yes if yes is no or same_constant else None


def _logic(expr: Apply) -> Expr | None:
    if expr.op not in ("and", "or"):
        return None
    for known, other in (expr.args, expr.args[::-1]):
        value = _value(known)
        if value is not None:
            return other if bool(value) == (expr.op == "and") else known
    return None


def _exact_division(expr: Apply) -> Expr | None:
    """Exactly: x / 2**k is x * 2**-k, and x / 0 is x * inf (GPU compilers make it 0)."""
    if expr.op != "div" or expr.dtype != FLOAT32:
        return None
    value = _value(expr.args[1])
    if value is None or not math.isfinite(value):
        return None
    if value == 0:
        return apply("mul", expr.args[0], math.copysign(math.inf, value))
    mantissa, exponent = math.frexp(value)
    if abs(mantissa) != 0.5 or not -125 <= exponent <= 126:
        return None
    return apply("mul", expr.args[0], 1.0 / value)


def _one_minus_power(expr: Expr) -> Expr:
    """1 - c**y = -expm1(y·log c): no cancellation where c**y is close to 1 (Adam)."""
    if not isinstance(expr, Apply) or expr.op != "sub" or not _is(expr.args[0], 1):
        return expr
    power = expr.args[1]
    log_base = _log_of_constant_base(power)
    if log_base is None or not isinstance(power, Apply):
        return expr
    return apply("neg", apply("expm1", apply("mul", power.args[1], log_base)))


def _power(expr: Expr) -> Expr:
    """x**2 .. x**4, x**0.5 (PyTorch's own is sqrt), x**-1, and c**y = exp(y·log c)."""
    log_base = _log_of_constant_base(expr)
    if not isinstance(expr, Apply) or expr.op != "pow":
        return expr
    x, y = expr.args
    if log_base is not None:
        return apply("exp", apply("mul", y, log_base))
    match _value(y):
        case 0:
            return Const(expr.dtype, 1)
        case 1:
            return x
        case 2:
            return apply("mul", x, x)
        case 3:
            return apply("mul", apply("mul", x, x), x)
        case 4:
            square = apply("mul", x, x)
            return apply("mul", square, square)
        case 0.5 if x.dtype == FLOAT32:
            return apply("sqrt", x)
        case -1 if x.dtype == FLOAT32:
            return apply("div", 1.0, x)
    return expr


def _log_of_constant_base(expr: Expr) -> float | None:
    if not isinstance(expr, Apply) or expr.op != "pow" or expr.dtype != FLOAT32:
        return None
    base = _value(expr.args[0])
    if base is None or not 0 < base < math.inf or base == 1:
        return None
    return math.log(base)


def _value(expr: Expr) -> Any:
    return expr.value if isinstance(expr, Const) else None


def _is(expr: Expr, number: int) -> bool:
    value = _value(expr)
    return value is not None and not isinstance(value, bool) and bool(value == number)


def _is_negative_zero(expr: Expr) -> bool:
    value = _value(expr)
    return isinstance(value, float) and value == 0 and math.copysign(1, value) < 0

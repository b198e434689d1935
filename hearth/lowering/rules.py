"""The table of lowering rules, and the few things that every rule needs.

A rule is a function `(site, *operands) -> Node`, or a tuple of nodes where the operation has
several results.  `site` is the captured operation (shape, element type and origin of its result);
operands are its arguments with every tensor replaced by our node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hearth.capture.graph import AtenNode, BatchScalar
from hearth.errors import UnsupportedOpError
from hearth.ir import build
from hearth.ir.dim import B, Dim
from hearth.ir.dtype import BOOL, DEVICE_DTYPE, FLOAT32, INT32, UINT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Arg as Argument
from hearth.ir.scalar import BatchValue, Expr, apply, cast, const

Operand = Any  # Node | Dim | BatchScalar | int | float | bool | str | None | tuple of them
Rule = Callable[..., Node | tuple[Node, ...]]

RULES: dict[str, Rule] = {}  # filled when the families are imported

_ORDER = (BOOL, INT32, UINT32, FLOAT32)  # a later type wins
_INT32_LIMITS = (-(2**31), 2**31 - 1)
# What no integer is below or above keeps that meaning: the fill of a masked maximum, for one.
SATURATED = {-(2**63): -(2**31), 2**63 - 1: 2**31 - 1}


def lowers(*targets: str) -> Callable[[Rule], Rule]:
    """Register a rule for overloads such as "aten.add.Tensor"."""

    def register(rule: Rule) -> Rule:
        for target in targets:
            assert target not in RULES, f"two rules for {target}"
            RULES[target] = rule
        return rule

    return register


def device_dtype(site: AtenNode) -> str:
    return DEVICE_DTYPE[site.dtype]


def number(value: Operand, dtype: str, origin: str = "") -> Expr:
    """A literal, possibly one that depends on the batch size, as a scalar expression."""
    if isinstance(value, Dim) and not value.is_static:
        return BatchValue(FLOAT32, value, Dim.of(1)) if dtype == FLOAT32 else _whole(value)
    if isinstance(value, BatchScalar):
        ratio = BatchValue(FLOAT32, value.numerator, value.denominator)
        scaled = ratio if value.scale == 1 else apply("mul", ratio, value.scale)
        return cast(scaled, dtype)
    plain = value.static if isinstance(value, Dim) else value
    if dtype == BOOL:
        return const(bool(plain), BOOL)
    if dtype == FLOAT32:
        return const(float(plain), FLOAT32)
    whole = SATURATED.get(int(plain), int(plain))
    if dtype == INT32 and not _INT32_LIMITS[0] <= whole <= _INT32_LIMITS[1]:
        raise UnsupportedOpError(
            f"the integer {whole} does not fit in 32 bits", where=origin,
            why="integers have 32 bits on the device", remedy="use a smaller number or a float",
        )  # fmt: skip
    return const(whole, dtype)


def _whole(polynomial: Dim) -> Expr:
    """An integer that depends on the batch size, by Horner's rule: exact also beyond 2**24."""
    batch = cast(BatchValue(FLOAT32, B, Dim.of(1)), INT32)
    total: Expr = const(polynomial.coefficients[-1], INT32)
    for coefficient in reversed(polynomial.coefficients[:-1]):
        total = apply("add", apply("mul", total, batch), coefficient)
    return total


def promoted(*operands: Operand) -> str:
    """The type in which PyTorch computes with these operands; numbers count by their kind only."""
    tensors = [o.dtype for o in operands if isinstance(o, Node)]
    kinds = [
        FLOAT32 if isinstance(o, float | BatchScalar) else BOOL if isinstance(o, bool) else INT32
        for o in operands
        if not isinstance(o, Node)
    ]
    return max([*tensors, *kinds], key=_ORDER.index)


def elementwise(
    site: AtenNode,
    compute: Callable[..., Expr],
    *operands: Operand,
    of: str | Sequence[str] | None = None,
) -> Node:
    """`compute` over the elements of the operands, cast to the type(s) `of` first."""
    of = of or promoted(*operands)
    types = (of,) * len(operands) if isinstance(of, str) else of
    inputs: list[Node] = []
    exprs: list[Expr] = []
    for operand, dtype in zip(operands, types, strict=True):
        if not isinstance(operand, Node):
            exprs.append(number(operand, dtype, site.origin))
            continue
        if operand not in inputs:
            inputs.append(operand)
        exprs.append(cast(Argument(operand.dtype, inputs.index(operand)), dtype))
    expr = narrowed(cast(compute(*exprs), device_dtype(site)), site.dtype)
    return build.pointwise(expr, *inputs, shape=site.shape, origin=site.origin)


def narrowed(expr: Expr, dtype: str) -> Expr:
    """Small integers live in 32 bits on the device and wrap around as in PyTorch."""
    if dtype == "uint8":
        return apply("bit_and", expr, 255)
    unused_bits = {"int8": 24, "int16": 16}.get(dtype)
    if unused_bits is None:
        return expr
    return apply("shift_right", apply("shift_left", expr, unused_bits), unused_bits)

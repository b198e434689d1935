"""Readable text of graphs, kernels and scalar expressions, for people and for golden tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from hearth.ir.dim import Dim, Shape
from hearth.ir.graph import Constant, Graph, Input, Node, Pointwise
from hearth.ir.index import Atom, Axis, FloorDiv, Index, Mod
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    Guard,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Store,
)
from hearth.ir.scalar import Apply, Arg, BatchValue, Const, Coord, Expr, walk

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floor_div": "//", "eq": "==", "ne": "!=",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "and", "or": "or", "bit_and": "&",
    "bit_or": "|", "bit_xor": "^", "shift_left": "<<", "shift_right": ">>",
}  # fmt: skip


def format_graph(graph: Graph) -> str:
    """One line per node, outputs last.

    %2 = add(%0, %1) -> float32[B, 10]  # model.py:41
    """
    names = {node: f"%{number}" for number, node in enumerate(graph.nodes)}
    lines = [format_node(node, names.__getitem__) for node in graph.nodes]
    lines += [f"{o.role} {o.name} = {names[o.node]}" for o in graph.outputs]
    return "\n".join(lines) + "\n"


def format_node(node: Node, name: Callable[[Node], str]) -> str:
    inputs = ", ".join(name(i) for i in node.inputs)
    match node.op:
        case Input(name=key, role=role):
            what = f"{role} {key}"
        case Constant(name=key):
            what = f"constant {key}"
        case Pointwise(expr=expr):
            lets, (text,) = format_expressions([expr], lambda leaf: _graph_leaf(leaf, node, name))
            what = "; ".join([*lets, text])
        case _:
            options = "".join(f", {k}={v}" for k, v in _options(node.op))
            what = f"{type(node.op).__name__.lower()}({inputs}{options})"
    origin = f"  # {node.origin}" if node.origin and not isinstance(node.op, Input) else ""
    return f"{name(node)} = {what} -> {format_type(node.dtype, node.shape)}{origin}"


def format_type(dtype: str, shape: Iterable[Dim]) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"


def format_expressions(
    roots: Sequence[Expr], leaf: Callable[[Expr], str]
) -> tuple[list[str], list[str]]:
    """Definitions of shared sub-expressions (`t0 = ...`), and one text per root."""
    uses = Counter(id(a) for e in walk(roots) if isinstance(e, Apply) for a in e.args)
    uses.update(id(root) for root in roots)
    lets: list[str] = []
    texts: dict[int, str] = {}
    for expr in walk(roots):
        if not isinstance(expr, Apply):
            texts[id(expr)] = leaf(expr)
            continue
        text = _format_apply(expr, [texts[id(a)] for a in expr.args])
        if uses[id(expr)] > 1:
            lets.append(f"t{len(lets)} = {text}")
            text = f"t{len(lets) - 1}"
        texts[id(expr)] = text
    return lets, [_without_parentheses(texts[id(root)]) for root in roots]


def format_kernel(kernel: Kernel) -> str:
    """Parameters, then the loops with their stages; inner loops number on from the outer ones."""
    origin = f"  # {kernel.origin}" if kernel.origin else ""
    lines = [f"kernel {kernel.name}: {kernel.points} points{origin}"]
    for number, param in enumerate(kernel.params):
        access = " ".join(
            word for word, on in (("read", param.is_read), ("write", param.is_written)) if on
        )
        half = " of float16" if param.is_half else ""
        lines.append(f"  p{number}: {format_type(param.dtype, [param.size])}{half} {access}")
    if kernel.template is not None:
        options = ", ".join(f"{k}={v}" for k, v in _options(kernel.template))
        lines.append(f"  stage 0 is {type(kernel.template).__name__}({options})")
    indent = "  "
    if kernel.axes:
        lines.append(f"  for {_loops(0, kernel.axes)}:")
        indent += "  "
    counter = 0
    for stage in kernel.stages:
        body = _format_stage(stage, len(kernel.axes), counter)
        counter += len(stage.reductions) if isinstance(stage, Accumulate) else 0
        lines += [indent + line for line in body]
    return "\n".join(lines) + "\n"


def format_index(index: Index) -> str:
    parts = [_scaled(_format_atom(a), c) for a, c in index.terms]
    if index.constant != Dim() or not parts:
        parts.append(str(index.constant))
    return " + ".join(parts)


def _format_stage(stage: Accumulate | Store, first: int, number: int) -> list[str]:
    values = [r.value for r in stage.reductions] if isinstance(stage, Accumulate) else [stage.value]
    lets, texts = format_expressions(values, _kernel_leaf)
    if isinstance(stage, Accumulate):
        body = [
            f"r{number + i} = {r.kind} of {text}"
            for i, (r, text) in enumerate(zip(stage.reductions, texts, strict=True))
        ]
    else:
        body = [f"p{stage.param}[{format_index(stage.index)}] = {texts[0]}"]
    lines = [*lets, *body]
    if not stage.axes:
        return lines
    return [f"for {_loops(first, stage.axes)}:", *("  " + line for line in lines)]


def _loops(first: int, axes: Shape) -> str:
    return ", ".join(f"i{first + i} < {extent}" for i, extent in enumerate(axes))


def _graph_leaf(expr: Expr, node: Node, name: Callable[[Node], str]) -> str:
    match expr:
        case Arg(position=position):
            return name(node.inputs[position])
        case Coord(axis=axis):
            return "linear" if axis is None else f"i{axis}"
    return _format_number(expr)


def _kernel_leaf(expr: Expr) -> str:
    match expr:
        case Load(param=param, index=index, guards=guards, fill=fill):
            read = f"p{param}[{format_index(index)}]"
            if not guards:
                return read
            return f"({read} if {' and '.join(map(_format_guard, guards))} else {fill})"
        case IndexValue(index=index):
            return f"({format_index(index)})"
        case Accumulator(number=number):
            return f"r{number}"
    return _format_number(expr)


def _format_number(expr: Expr) -> str:
    match expr:
        case Const(value=value):
            return repr(value)
        case BatchValue(numerator=numerator, denominator=Dim((1,))):
            return f"({numerator})"
        case BatchValue(numerator=numerator, denominator=denominator):
            return f"(({numerator}) / ({denominator}))"
    return type(expr).__name__


def _format_apply(expr: Apply, args: list[str]) -> str:
    if expr.op in _INFIX:
        return f"({args[0]} {_INFIX[expr.op]} {args[1]})"
    return f"{expr.op}({', '.join(map(_without_parentheses, args))})"


def _without_parentheses(text: str) -> str:
    """Strip one pair that encloses the whole text."""
    if not text.startswith("("):
        return text
    depth = 0
    for position, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return text[1:-1] if position == len(text) - 1 else text
    return text


def _format_guard(guard: Guard) -> str:
    if isinstance(guard, InRange):
        return f"0 <= {format_index(guard.index)} < {guard.extent}"
    return f"({format_index(guard.index)}) % {guard.divisor} == 0"


def _format_atom(atom: Atom) -> str:
    match atom:
        case Axis(position=position):
            return f"i{position}"
        case FloorDiv(numerator=numerator, divisor=divisor):
            return f"({format_index(numerator)}) // ({divisor})"
        case Mod(numerator=numerator, divisor=divisor):
            return f"({format_index(numerator)}) % ({divisor})"
    lets, (text,) = format_expressions([atom.expr], _kernel_leaf)
    return "; ".join([*lets, f"({text})"])


def _scaled(text: str, coefficient: Dim) -> str:
    if coefficient == Dim.of(1):
        return text
    factor = str(coefficient)
    return f"{text}*({factor})" if " " in factor else f"{text}*{factor}"


def _options(record: Any) -> list[tuple[str, Any]]:
    """The fields that say something: None stands for what most records do without."""
    values = [(field.name, getattr(record, field.name)) for field in fields(record)]
    return [(name, value) for name, value in values if value is not None]

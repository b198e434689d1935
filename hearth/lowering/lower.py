"""From a captured program to a graph: one rule per operation, all gaps reported at once.

What it is not: an optimizer.  Rules say what an operation means in our few node kinds; fusion,
layouts and everything else that makes it fast come later.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hearth.capture.graph import Argument, AtenGraph, AtenNode, Value, values_in
from hearth.errors import InternalError, UnsupportedOpError
from hearth.ir import build
from hearth.ir.dim import shape_of
from hearth.ir.dtype import DEVICE_DTYPE, FILE_DTYPES, HALVES
from hearth.ir.graph import (
    Expand,
    Graph,
    Input,
    Node,
    Output,
    Permute,
    Pointwise,
    Reshape,
)
from hearth.ir.halves import Halves
from hearth.ir.scalar import SCALAR_OPS, Apply, Arg, Expr
from hearth.ir.verify import verify
from hearth.lowering import (  # noqa: F401 (each fills the table of rules)
    contraction,
    convolution,
    elementwise,
    indexing,
    layout,
    ordering,
    pooling,
    random,
    reduction,
    scans,
)
from hearth.lowering.rules import RULES, SATURATED, Operand, number

STATE_ROLES = frozenset(("parameter", "buffer", "optimizer", "constant", "seed", "step", "scaler"))


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Values of an input are indices: low <= value < high, or value == except_value."""

    input: str
    low: int
    high: int
    except_value: int | None


@dataclass(frozen=True, slots=True)
class Lowered:
    graph: Graph
    ranges: tuple[IndexRange, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """An operation that we cannot lower yet."""

    op: str
    origin: str
    hint: str


def lower(aten: AtenGraph, ends: Collection[str] = FILE_DTYPES) -> Lowered:
    """The program in our IR; raises `UnsupportedOpError` that lists every gap.

    `ends` are the element types that inputs and outputs may have: a bundle's, unless the graph
    is only interpreted.
    """
    gaps = find_gaps(aten, ends)
    if gaps:
        raise _unsupported(gaps)
    constants: dict[str, Any] = {}
    values = _sources(aten, constants)
    halves = Halves()
    for site in aten.nodes:
        for value, node in zip(site.results, _apply_rule(site, values), strict=True):
            is_half = value.dtype in HALVES
            values[value] = halves.rounded(node, value.dtype) if is_half else node
    outputs = tuple(
        Output(o.name, "update" if o.role in STATE_ROLES else o.role, values[o.value])
        for o in aten.outputs
    )
    graph = verify(Graph(outputs, constants), "lowering")
    return Lowered(graph, tuple(_index_ranges(aten, values)))


def find_gaps(aten: AtenGraph, ends: Collection[str] = FILE_DTYPES) -> list[Gap]:
    """Every operation without a rule and every element type without a place on the device."""
    gaps = [Gap(n.target, n.origin, _hint(n.target)) for n in aten.nodes if n.target not in RULES]
    for node in aten.nodes:
        for dtype in sorted({r.dtype for r in node.results} - set(DEVICE_DTYPE)):
            hint = f"{dtype} has no place on the device: compute in float32"
            gaps.append(Gap(node.target, node.origin, hint))
    for role, group in (("input", aten.inputs), ("output", aten.outputs)):
        for end in group:
            if end.value.dtype not in ends:
                hint = f"a program cannot take or return {end.value.dtype}: convert it to float32"
                gaps.append(Gap(role, end.name, hint))
    return gaps


def _sources(aten: AtenGraph, constants: dict[str, Any]) -> dict[Value, Node]:
    values: dict[Value, Node] = {}
    for source in aten.inputs:
        value = source.value
        dtype = DEVICE_DTYPE[value.dtype]
        values[value] = build.input_node(source.name, source.role, value.shape, dtype)
    for value, array in aten.constants.items():
        values[value] = _constant(value, np.asarray(array), constants)
    return values


def _constant(value: Value, array: Any, constants: dict[str, Any]) -> Node:
    """A table, or a number where all its elements are the same."""
    dtype = DEVICE_DTYPE[value.dtype]
    if value.dtype in HALVES:
        with np.errstate(over="ignore"):
            array = SCALAR_OPS[f"round_{value.dtype}"].reference(array.astype(np.float32))
    first = array.flat[0].item() if array.size else 0
    if array.size == 1 or (array == first).all():
        return build.pointwise(number(first, dtype, value.name), shape=value.shape)
    for limit, saturated in SATURATED.items() if array.dtype == np.int64 else ():
        array = np.where(array == limit, saturated, array)
    # Floats keep their precision here, for the float64 reference; the bundle stores float32.
    device = array if array.dtype.kind == "f" else array.astype(dtype)
    if not np.array_equal(device, array):
        number(int(array.max()), dtype, value.name)
        number(int(array.min()), dtype, value.name)
    constants[value.name] = device
    return build.constant(value.name, shape_of(array.shape), dtype)


def _apply_rule(site: AtenNode, values: Mapping[Value, Node]) -> tuple[Node, ...]:
    operands = [_operand(a, values) for a in site.args]
    named = {name: _operand(a, values) for name, a in site.kwargs.items()}
    try:
        result = RULES[site.target](site, *operands, **named)
    except ValueError as error:  # a kernel, stride or group count that depends on the batch size
        raise UnsupportedOpError(
            f"{site.target} cannot be lowered: {error}",
            where=site.origin,
            why="only plain extents may depend on the batch size",
            remedy="keep the batch in dimension 0 of this operation",
        ) from error
    nodes = result if isinstance(result, tuple) else (result,)
    for node, value in zip(nodes, site.results, strict=True):
        if node.shape != value.shape or node.dtype != DEVICE_DTYPE[value.dtype]:
            what = f"{node.dtype}{list(node.shape)} instead of {value.type}"
            raise InternalError(f"the rule for {site.target} made {what}", where=site.origin)
    return nodes


def _operand(argument: Argument, values: Mapping[Value, Node]) -> Operand:
    if isinstance(argument, Value):
        return values[argument]
    if isinstance(argument, tuple):
        return tuple(_operand(a, values) for a in argument)
    return argument


def _hint(target: str) -> str:
    """The supported operations with the nearest names, and the file where a rule would belong."""
    if not target.startswith(("aten.", "hearth.")):
        return (
            "an operator of another library: write it with torch operations, or add its "
            "decomposition to hearth/capture/decompositions"
        )
    near = difflib.get_close_matches(target, RULES, n=3, cutoff=0.6)
    if not near:
        return "add a rule to a family in hearth/lowering"
    file = RULES[near[0]].__module__.replace(".", "/") + ".py"
    return f"nearest supported: {', '.join(near)}; add a rule to {file}"


def _unsupported(gaps: list[Gap]) -> UnsupportedOpError:
    places: dict[tuple[str, str], list[str]] = {}
    for gap in gaps:
        places.setdefault((gap.op, gap.hint), []).append(gap.origin)
    lines = [f"{op} at {'; '.join(dict.fromkeys(w))} ({h})" for (op, h), w in places.items()]
    return UnsupportedOpError(
        f"{len(places)} operations have no lowering rule:\n  " + "\n  ".join(lines),
        why="lowering has one rule per ATen overload and these have none",
        remedy="replace the operation in the model, or add a rule with a sample in "
        "tests/ops/samples/ (CONTRIBUTING.md, add an op)",
    )


# ---------------------------------------------------------------- promises about inputs


def _index_ranges(aten: AtenGraph, values: Mapping[Value, Node]) -> Iterator[IndexRange]:
    """Promises whose value is an input seen through views and casts of all its elements."""
    found: dict[str, IndexRange] = {}
    for site in aten.nodes:
        if site.target != "hearth.index_range":
            continue
        source = _input_behind(values[next(values_in(site.args))])
        if source is None:
            continue
        _, size, except_value = site.args
        assert isinstance(size, int)
        assert except_value is None or isinstance(except_value, int)
        promise = IndexRange(source, 0, size, except_value)
        found[source] = _both(found.get(source, promise), promise)
    yield from found.values()


def _both(a: IndexRange, b: IndexRange) -> IndexRange:
    """What holds under both promises."""
    except_value = a.except_value if a.except_value == b.except_value else None
    return IndexRange(a.input, max(a.low, b.low), min(a.high, b.high), except_value)


def _input_behind(node: Node) -> str | None:
    while True:
        match node.op:
            case Input(name=name):
                return name
            case Reshape() | Permute() | Expand():
                node = node.inputs[0]
            case Pointwise(expr=expr) if _is_cast(expr):
                node = node.inputs[0]
            case _:
                return None


def _is_cast(expr: Expr) -> bool:
    while isinstance(expr, Apply) and expr.op.startswith("to_"):
        expr = expr.args[0]
    return isinstance(expr, Arg)

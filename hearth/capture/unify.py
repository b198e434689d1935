"""Three graphs of the same step, traced at three batch sizes, become one with a symbolic batch.

The graphs must agree in everything but numbers.  A number that differs is solved as a function of
the batch size, which three samples over-determine; whatever cannot be solved is an error that
names the line, because it means that the model treats batch sizes differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hearth.capture.graph import (
    Argument,
    AtenGraph,
    AtenInput,
    AtenNode,
    AtenOutput,
    BatchScalar,
    Value,
)
from hearth.errors import CaptureError
from hearth.ir.dim import B, Dim, Shape

_RELATIVE_TOLERANCE = 1e-12
_BRANCH_REMEDY = (
    "make the model do the same for every batch size: no `if` on len(x) or x.shape[0], and no "
    "number computed from them that is not affine in the batch size"
)


def unify(graphs: Sequence[AtenGraph], batches: Sequence[int]) -> AtenGraph:
    """One graph for every batch size >= 1, or `CaptureError`."""
    return _Unifier(graphs, batches).run()


class _Unifier:
    def __init__(self, graphs: Sequence[AtenGraph], batches: Sequence[int]) -> None:
        self.graphs, self.batches = graphs, batches
        self.values: dict[Value, Value] = {}

    def run(self) -> AtenGraph:
        first = self.graphs[0]
        self._same_structure()
        columns = zip(*(g.inputs for g in self.graphs), strict=True)
        inputs = tuple(
            AtenInput(c[0].name, c[0].role, self._value([i.value for i in c], c[0].name))
            for c in columns
        )
        constants = self._constants()
        nodes = tuple(self._node(c) for c in zip(*(g.nodes for g in self.graphs), strict=True))
        outputs = tuple(AtenOutput(o.name, o.role, self.values[o.value]) for o in first.outputs)
        for column in zip(*(g.outputs for g in self.graphs), strict=True):
            self._argument([o.value for o in column], f"output {column[0].name}")
        graph = AtenGraph(inputs, nodes, outputs, constants, first.streams)
        _check_every_batch(graph)
        return graph

    def _same_structure(self) -> None:
        for column in zip(*(g.nodes for g in self.graphs), strict=False):
            if len({(n.target, len(n.results)) for n in column}) > 1:
                places = dict.fromkeys(n.origin for n in column)
                raise self._differs(" or ".join(places), [n.target for n in column])
        if len({len(g.nodes) for g in self.graphs}) > 1:
            raise self._differs("", [f"{len(g.nodes)} operations" for g in self.graphs])

    def _constants(self) -> dict[Value, np.ndarray]:
        data: dict[Value, np.ndarray] = {}
        if len({len(g.constants) for g in self.graphs}) > 1:
            raise self._differs("", [f"{len(g.constants)} constants" for g in self.graphs])
        for column in zip(*(g.constants.items() for g in self.graphs), strict=True):
            arrays = [array for _, array in column]
            name = column[0][0].name
            if any(not _same_array(arrays[0], array) for array in arrays):
                raise self._differs("", [f"constant {name} {a.shape}" for a in arrays])
            data[self._value([value for value, _ in column], name)] = arrays[0]
        return data

    def _node(self, column: Sequence[AtenNode]) -> AtenNode:
        first = column[0]
        args = self._argument([n.args for n in column], first.origin)
        assert isinstance(args, tuple)
        kwargs = {
            k: self._argument([n.kwargs[k] for n in column], first.origin) for k in first.kwargs
        }
        results = tuple(
            self._value(list(r), first.origin, f"{first.index}.{i}" if i else f"{first.index}")
            for i, r in enumerate(zip(*(n.results for n in column), strict=True))
        )
        return AtenNode(first.index, first.target, args, kwargs, results, first.origin)

    def _value(self, column: Sequence[Value], origin: str, name: str = "") -> Value:
        first = column[0]
        if len({(v.dtype, len(v.shape)) for v in column}) > 1:
            raise self._differs(origin, [v.type for v in column])
        shape: Shape = tuple(
            Dim.of(self._integer([e.static for e in extents], origin))
            for extents in zip(*(v.shape for v in column), strict=True)
        )
        value = Value(name or first.name, shape, first.dtype)
        self.values.update(dict.fromkeys(column, value))
        return value

    def _argument(self, column: Sequence[Argument], origin: str) -> Argument:
        first = column[0]
        if isinstance(first, Value):
            mapped = {self.values[v] if isinstance(v, Value) else None for v in column}
            if len(mapped) > 1:
                raise self._differs(origin, column)
            return self.values[first]
        if isinstance(first, tuple):
            if len({len(a) if isinstance(a, tuple) else -1 for a in column}) > 1:
                raise self._differs(origin, column)
            return tuple(self._argument(c, origin) for c in zip(*column, strict=True))
        if all(type(a) is type(first) and _equal(a, first) for a in column):
            return first
        if all(type(a) is int for a in column):
            return self._integer(column, origin)  # type: ignore[arg-type]
        if all(type(a) is float for a in column):
            return self._float(column, origin)  # type: ignore[arg-type]
        raise self._differs(origin, column)

    def _integer(self, column: Sequence[int], origin: str) -> Dim | int:
        solution = solve_integer(column, self.batches)
        if solution is None:
            raise self._differs(origin, column)
        return solution

    def _float(self, column: Sequence[float], origin: str) -> BatchScalar:
        solution = solve_float(column, self.batches)
        if solution is None:
            raise self._differs(origin, column)
        return solution

    def _differs(self, origin: str, column: Sequence[object]) -> CaptureError:
        seen = ", ".join(f"{c} at {b}" for c, b in zip(column, self.batches, strict=False))
        return CaptureError(
            f"the step does different things at different batch sizes: {seen}",
            where=origin,
            why="a compiled step serves every batch size with the same operations",
            remedy=_BRANCH_REMEDY,
        )


def solve_integer(values: Sequence[int], batches: Sequence[int]) -> Dim | int | None:
    """The value itself, or a*B + b, or c*B**2, whichever fits all samples; else None."""
    if len(set(values)) == 1:
        return values[0]
    (v, w, *_), (x, y, *_) = values, batches
    slope = (w - v) // (y - x)
    square = v // (x * x)
    for candidate in (slope * B + (v - slope * x), square * (B * B)):
        if all(candidate.at(b) == value for b, value in zip(batches, values, strict=True)):
            return candidate
    return None


def solve_float(values: Sequence[float], batches: Sequence[int]) -> BatchScalar | None:
    """A factor times n(B) or over n(B), with n(B) an integer a*B + b or c*B**2; else None.

    For b = 0 any factor is found, otherwise 1/1, 1/2, ... 1/8 or the reciprocal of these.
    """
    if any(v == 0 or not np.isfinite(v) for v in values):
        return None
    inverse = [1 / v for v in values]
    one = Dim.of(1)
    for whole, turned in ((values, False), (inverse, True)):
        candidates = [
            (solve_integer([round(v * part) for v in whole], batches), 1 / part)
            for part in range(1, 9)
        ]
        candidates += [(n, whole[0] / n.at(batches[0])) for n in (B, B * B)]
        for candidate, scale in candidates:
            if not isinstance(candidate, Dim):
                continue
            found = (
                BatchScalar(_clean(1 / scale), one, candidate)
                if turned
                else BatchScalar(_clean(scale), candidate, one)
            )
            if all(_close(found.at(b), v) for b, v in zip(batches, values, strict=True)):
                return found
    return None


def _clean(scale: float) -> float:
    """An integer that went through a division comes back as one."""
    return float(round(scale)) if scale > 0.5 and _close(scale, round(scale)) else scale


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _RELATIVE_TOLERANCE * abs(b)


def _equal(a: object, b: object) -> bool:
    return a == b or (a != a and b != b)


def _same_array(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _check_every_batch(graph: AtenGraph) -> None:
    """Extents are at least 1 and slices stay inside for every batch size, not only the traced."""
    for node in graph.nodes:
        for value in node.results:
            for extent in value.shape:
                if not extent.is_static and not extent.is_at_least(1):
                    raise _empty(f"a tensor has {extent} elements along an axis", node)
        if node.target == "aten.slice.Tensor":
            x, axis, _, stop, _ = node.args
            assert isinstance(x, Value)
            assert isinstance(axis, int)
            assert isinstance(stop, (int, Dim))
            if not x.shape[axis].is_at_least(stop):
                raise _empty(f"a slice takes {stop} of {x.shape[axis]} elements", node)


def _empty(what: str, node: AtenNode) -> CaptureError:
    return CaptureError(
        f"{what}, where B is the batch size",
        where=node.origin,
        why="a compiled step serves every batch size from 1 up",
        remedy="do not take a fixed number of samples out of a batch",
    )

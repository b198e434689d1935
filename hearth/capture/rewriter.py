"""Writing a captured graph anew, node by node: what the canonical forms are expressed with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hearth.capture.graph import Argument, AtenGraph, AtenNode, AtenOutput, Value
from hearth.ir.dim import Shape, shape_of

Scalar = int | float | bool
Extents = tuple[int, ...]
_DTYPE_ORDER = (
    *("bool", "uint8", "int8", "int16", "int32", "uint32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
)


def extents(value: Value) -> Extents:
    return tuple(e.static for e in value.shape)


def is_float(dtype: str) -> bool:
    return "float" in dtype


def convert(scalar: Scalar, dtype: str) -> Scalar:
    if dtype == "bool":
        return bool(scalar)
    return float(scalar) if is_float(dtype) else int(scalar)


def promoted(operands: Sequence[Argument]) -> str:
    """The dtype in which PyTorch compares these operands (a 0-d tensor counts less)."""
    values = [v for v in operands if isinstance(v, Value)]
    full = [v.dtype for v in values if v.shape] or [v.dtype for v in values]
    weak = [v.dtype for v in values if not v.shape]
    weak += ["float32" for s in operands if isinstance(s, float)]
    weak += ["int64" for s in operands if isinstance(s, int) and not isinstance(s, bool)]
    strongest = max(full, key=_DTYPE_ORDER.index)
    higher = [w for w in weak if _category(w) > _category(strongest)]
    return max(higher, key=_DTYPE_ORDER.index) if higher else strongest


def _category(dtype: str) -> int:
    return 0 if dtype == "bool" else 2 if is_float(dtype) else 1


@dataclass
class Call:
    """A node being rewritten: its arguments by name, already in terms of the new graph."""

    node: AtenNode
    arguments: dict[str, Argument]

    @property
    def shape(self) -> Extents:
        return extents(self.node.results[0])

    @property
    def dtype(self) -> str:
        return self.node.results[0].dtype

    def __getitem__(self, name: str) -> Argument:
        return self.arguments[name]

    def value(self, name: str = "self") -> Value:
        argument = self.arguments[name]
        assert isinstance(argument, Value), (self.node.target, name, argument)
        return argument

    def values(self, name: str) -> tuple[Value, ...]:
        argument = self.arguments[name]
        assert isinstance(argument, tuple)
        return tuple(a for a in argument if isinstance(a, Value))

    def integer(self, name: str) -> int:
        argument = self.arguments[name]
        assert isinstance(argument, int)
        return argument

    def integers(self, name: str) -> tuple[int, ...]:
        argument = self.arguments[name]
        assert isinstance(argument, tuple)
        return tuple(a for a in argument if isinstance(a, int))


Form = Callable[["Rewriter", Call], "Argument | None"]
FORMS: dict[str, Form] = {}


def form(*targets: str) -> Callable[[Form], Form]:
    """Register the canonical form of these operations; it returns None to leave a call alone."""

    def register(function: Form) -> Form:
        FORMS.update(dict.fromkeys(targets, function))
        return function

    return register


@dataclass
class Rewriter:
    """Builds the new graph; `emit` appends one node, the other methods one canonical operation."""

    forms: dict[str, Form]
    nodes: list[AtenNode] = field(default_factory=list)
    constants: dict[Value, np.ndarray] = field(default_factory=dict)
    values: dict[Value, Argument] = field(default_factory=dict)
    scalars: dict[Value, Scalar] = field(default_factory=dict)
    origin: str = ""

    def run(self, graph: AtenGraph) -> AtenGraph:
        self.constants.update(graph.constants)
        self.values.update({i.value: i.value for i in graph.inputs})
        self.values.update({c: c for c in graph.constants})
        for node in graph.nodes:
            self.origin = node.origin
            self._rewrite(node)
        outputs = tuple(AtenOutput(o.name, o.role, self._tensor(o.value)) for o in graph.outputs)
        return AtenGraph(graph.inputs, tuple(self.nodes), outputs, self.constants, graph.streams)

    def _rewrite(self, node: AtenNode) -> None:
        call = Call(node, {k: self._renamed(a) for k, a in node.kwargs.items()})
        form = self.forms.get(node.target)
        result = None if form is None else form(self, call)
        if result is None:
            arguments = call.arguments
            new = self._append(
                node.target, (), arguments, [(v.shape, v.dtype) for v in node.results]
            )
            self.values.update(zip(node.results, new, strict=True))
        elif isinstance(result, tuple):
            self.values.update(zip(node.results, result, strict=True))
        else:
            self.values[node.results[0]] = result

    def _renamed(self, argument: Argument) -> Argument:
        if isinstance(argument, Value):
            return self.values[argument]
        if isinstance(argument, tuple):
            return tuple(self._renamed(a) for a in argument)
        return argument

    def _tensor(self, value: Value) -> Value:
        new = self.values[value]
        assert isinstance(new, Value)
        return new

    def _append(
        self,
        target: str,
        args: tuple[Argument, ...],
        kwargs: dict[str, Argument],
        types: list[tuple[Shape, str]],
    ) -> tuple[Value, ...]:
        index = len(self.nodes)
        names = [f"{index}" if len(types) == 1 else f"{index}.{i}" for i in range(len(types))]
        results = tuple(Value(n, s, d) for n, (s, d) in zip(names, types, strict=True))
        self.nodes.append(AtenNode(index, target, args, kwargs, results, self.origin))
        return results

    def emit(self, target: str, args: tuple[Argument, ...], shape: Extents, dtype: str) -> Value:
        return self._append(target, args, {}, [(shape_of(shape), dtype)])[0]

    def emit_many(
        self, target: str, args: tuple[Argument, ...], like: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        return self._append(target, args, {}, [(v.shape, v.dtype) for v in like])

    def cast(self, x: Value, dtype: str) -> Value:
        if x.dtype == dtype:
            return x
        if x in self.scalars:
            return self.full(extents(x), convert(self.scalars[x], dtype), dtype)
        if x in self.constants and is_float(dtype) and is_float(x.dtype):
            # the data keeps its precision: who stores it rounds once
            constant = Value(f"{x.name}.{dtype}", x.shape, dtype)
            self.constants[constant] = self.constants[x]
            return constant
        return self.emit("hearth.cast", (x, dtype), extents(x), dtype)

    def full(self, shape: Extents, scalar: Scalar, dtype: str) -> Value:
        value = self.emit("aten.full.default", (shape, scalar), shape, dtype)
        if not shape:
            self.scalars[value] = scalar
        return value

    def pointwise(
        self, target: str, operands: Sequence[Argument], shape: Extents, dtype: str, of: str
    ) -> Value:
        """An elementwise operation: 0-d constants become scalars, tensors are cast to `of`."""
        inlined = [
            self.scalars.get(a, a) if isinstance(a, Value) and not a.shape else a for a in operands
        ]
        if not any(isinstance(a, Value) for a in inlined):
            inlined = list(operands)
        cast = [self.cast(a, of) if isinstance(a, Value) else a for a in inlined]
        return self.emit(target, tuple(cast), shape, dtype)

    def reshape(self, x: Value, shape: Extents) -> Value:
        if extents(x) == shape:
            return x
        if x in self.scalars:
            return self.full(shape, self.scalars[x], x.dtype)
        return self.emit("aten.reshape.default", (x, shape), shape, x.dtype)

    def expand(self, x: Value, shape: Extents) -> Value:
        if extents(x) == shape:
            return x
        return self.emit("aten.expand.default", (x, shape), shape, x.dtype)

    def permute(self, x: Value, axes: Sequence[int]) -> Value:
        if list(axes) == sorted(axes):
            return x
        shape = tuple(extents(x)[a] for a in axes)
        return self.emit("aten.permute.default", (x, tuple(axes)), shape, x.dtype)

    def slice(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        shape = list(extents(x))
        if (start, stop, step) == (0, shape[axis], 1):
            return x
        shape[axis] = max(0, math.ceil((stop - start) / step))
        args = (x, axis, start, stop, step)
        return self.emit("aten.slice.Tensor", args, tuple(shape), x.dtype)

    def pad(self, x: Value, amounts: Sequence[tuple[int, int]], scalar: Scalar = 0) -> Value:
        if all(pair == (0, 0) for pair in amounts):
            return x
        pairs = zip(extents(x), amounts, strict=True)
        shape = tuple(e + before + after for e, (before, after) in pairs)
        args = (x, tuple(amounts), convert(scalar, x.dtype))
        return self.emit("aten.constant_pad_nd.default", args, shape, x.dtype)

    def cat(self, parts: Sequence[Value], axis: int, dtype: str) -> Value:
        held = [p for p in parts if extents(p)[axis : axis + 1] != (0,)] or parts[:1]
        parts = [self.cast(p, dtype) for p in held]
        if len(parts) == 1:
            return parts[0]
        shape = list(extents(parts[0]))
        shape[axis] = sum(extents(p)[axis] for p in parts)
        return self.emit("aten.cat.default", (tuple(parts), axis), tuple(shape), dtype)

    def reduce(self, target: str, x: Value, axes: Sequence[int], keepdim: bool) -> Value:
        if not axes:
            return x
        keep = [1 if a in axes else e for a, e in enumerate(extents(x))]
        shape = tuple(e for a, e in enumerate(keep) if keepdim or a not in axes)
        return self.emit(target, (x, tuple(sorted(axes)), keepdim), shape, x.dtype)

"""A captured program as plain data: a flat list of ATen operations with one symbolic batch size.

This is what the rest of the compiler sees of PyTorch: no tensors, no modules, no FX.  It is not
our IR: the operations are still ATen's (`opset.py` lists the few that remain), and nothing here
knows how to compute them.  The one idea: everything that changes with the batch size is written
down as such, a `Dim` (an integer) or a `BatchScalar` (a float), and everything else is a literal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hearth.ir.dim import Dim, Shape


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor of the program: an input, a constant, or a result of a node.

    Values are compared and hashed by identity.  `dtype` is one of "float32", "float64",
    "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint32", "bool".
    """

    name: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"%{self.name}"

    __repr__ = __str__

    @property
    def type(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class BatchScalar:
    """A float literal that depends on the batch size: `scale * numerator(B) / denominator(B)`.

    The mean over a batch of n-element rows is `BatchScalar(1.0, Dim 1, Dim n*B)`.
    """

    scale: float
    numerator: Dim
    denominator: Dim

    def at(self, batch: int) -> float:
        return self.scale * self.numerator.at(batch) / self.denominator.at(batch)

    def __str__(self) -> str:
        top = repr(self.scale)
        if self.numerator != Dim.of(1):
            top = f"{top}*({self.numerator})"
        return top if self.denominator == Dim.of(1) else f"{top}/({self.denominator})"


Argument = Value | Dim | BatchScalar | int | float | bool | str | None | tuple["Argument", ...]


@dataclass(frozen=True, slots=True, eq=False)
class AtenNode:
    """One operation: `results = target(*args, **kwargs)`.

    `origin` says where it came from: "model.py:41 in forward (module conv1)", for a gradient
    operation the line of its forward operation followed by ", gradient".
    """

    index: int
    target: str
    args: tuple[Argument, ...]
    kwargs: dict[str, Argument]
    results: tuple[Value, ...]
    origin: str

    @property
    def shape(self) -> Shape:
        """The shape of the first (mostly the only) result."""
        return self.results[0].shape

    @property
    def dtype(self) -> str:
        return self.results[0].dtype

    def operands(self) -> Iterator[Value]:
        """Every value this node reads, in order, with repetition."""
        return values_in((self.args, tuple(self.kwargs.values())))

    def __str__(self) -> str:
        left = ", ".join(f"{r}: {r.type}" for r in self.results)
        words = [format_argument(a) for a in self.args]
        words += [f"{k}={format_argument(a)}" for k, a in self.kwargs.items()]
        return f"{left} = {self.target}({', '.join(words)})  # {self.origin}"


@dataclass(frozen=True, slots=True, eq=False)
class AtenInput:
    """A named input; `role` is a role of spec/manifest.md (parameter, input, ...)."""

    name: str
    role: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class AtenOutput:
    """A named output: loss, output, metric, gradient, norm, or new state (buffer, ...)."""

    name: str
    role: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class AtenGraph:
    """A program: inputs and constants, nodes in execution order without dead ones, outputs.

    `constants` maps a value to its data (an array of the value's shape and dtype).
    `streams` is the number of random streams the program draws from.
    """

    inputs: tuple[AtenInput, ...]
    nodes: tuple[AtenNode, ...]
    outputs: tuple[AtenOutput, ...]
    constants: dict[Value, np.ndarray] = field(default_factory=dict)
    streams: int = 0

    def input(self, name: str) -> AtenInput:
        return next(i for i in self.inputs if i.name == name)

    def output(self, name: str) -> AtenOutput:
        return next(o for o in self.outputs if o.name == name)

    def __str__(self) -> str:
        lines = [f"{i.value}: {i.value.type}  # {i.role}" for i in self.inputs]
        lines += [f"{c}: {c.type}  # constant" for c in self.constants]
        lines += [str(n) for n in self.nodes]
        lines += [f"return {o.role} {o.name} = {o.value}" for o in self.outputs]
        return "\n".join(lines)


def values_in(argument: Argument) -> Iterator[Value]:
    """Every `Value` inside an argument, depth first."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, tuple):
        for item in argument:
            yield from values_in(item)


def format_argument(argument: Argument) -> str:
    if isinstance(argument, tuple):
        comma = "," if len(argument) == 1 else ""
        return "(" + ", ".join(map(format_argument, argument)) + comma + ")"
    return str(argument)

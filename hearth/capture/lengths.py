"""A program of a vector of B elements as a program of a vector of any other length.

What a program does to each vector of many is captured once: the batch size of its graph gives way
to the length of each, which may itself depend on the batch size of the program that it becomes a
part of.
"""

from __future__ import annotations

from hearth.capture.graph import (
    Argument,
    AtenGraph,
    AtenInput,
    AtenNode,
    AtenOutput,
    BatchScalar,
    Value,
)
from hearth.ir.dim import Dim


def of_length(graph: AtenGraph, length: Dim) -> AtenGraph:
    """The graph with `length` in the place of B."""
    values: dict[Value, Value] = {}

    def value_of(value: Value) -> Value:
        if value not in values:
            shape = tuple(_replaced(extent, length) for extent in value.shape)
            values[value] = Value(value.name, shape, value.dtype)
        return values[value]

    def argument_of(argument: Argument) -> Argument:
        match argument:
            case Value():
                return value_of(argument)
            case Dim():
                extent = _replaced(argument, length)
                return extent.static if extent.is_static else extent
            case BatchScalar(scale, numerator, denominator):
                scalar = BatchScalar(
                    scale, _replaced(numerator, length), _replaced(denominator, length)
                )
                return scalar.at(1) if length.is_static else scalar
            case tuple():
                return tuple(argument_of(item) for item in argument)
        return argument

    def node_of(node: AtenNode) -> AtenNode:
        args = tuple(argument_of(argument) for argument in node.args)
        kwargs = {key: argument_of(argument) for key, argument in node.kwargs.items()}
        results = tuple(value_of(result) for result in node.results)
        return AtenNode(node.index, node.target, args, kwargs, results, node.origin)

    return AtenGraph(
        tuple(AtenInput(i.name, i.role, value_of(i.value)) for i in graph.inputs),
        tuple(node_of(node) for node in graph.nodes),
        tuple(AtenOutput(o.name, o.role, value_of(o.value)) for o in graph.outputs),
        {value_of(value): array for value, array in graph.constants.items()},
        graph.streams,
    )


def _replaced(polynomial: Dim, length: Dim) -> Dim:
    """Horner's rule."""
    result = Dim()
    for coefficient in reversed(polynomial.coefficients):
        result = result * length + coefficient
    return result

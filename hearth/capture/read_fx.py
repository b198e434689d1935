"""From an FX graph to plain data: arguments by name, one `Value` per tensor.

Constants become arrays, and what a second forward pass (checkpointing) takes from outside of it is
read anew, so that no later stage mistakes it for a value that is kept.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor

from hearth.capture.checkpointing import region_of
from hearth.capture.graph import Argument, AtenGraph, AtenInput, AtenNode, AtenOutput, Value
from hearth.capture.origins import UNKNOWN
from hearth.capture.traced import TracedInput, Tracing
from hearth.errors import CaptureError
from hearth.ir.dim import shape_of

_IGNORED_ARGUMENTS = frozenset(
    ("device", "layout", "memory_format", "pin_memory", "generator", "non_blocking", "out_dtype")
)
_STATE_ROLES = frozenset(("parameter", "buffer", "optimizer"))


def read_fx(
    module: torch.fx.GraphModule, inputs: Sequence[TracedInput], tracing: Tracing
) -> AtenGraph:
    """The graph of a traced module; its placeholders are `inputs`, its results `tracing.outputs`.

    Raises `CaptureError` for a constant or an argument that is no plain data.
    """
    return _Reader(module, inputs, tracing).read()


class _Reader:
    def __init__(
        self, module: torch.fx.GraphModule, inputs: Sequence[TracedInput], tracing: Tracing
    ) -> None:
        self.module, self.inputs, self.tracing = module, inputs, tracing
        self.results: dict[torch.fx.Node, tuple[Value, ...]] = {}
        self.attributes: dict[str, Value] = {}
        self.constants: dict[Value, np.ndarray] = {}
        self.nodes: list[AtenNode] = []
        self.region: int | None = None  # the second forward pass that is being read
        self.regions: dict[Value, int | None] = {}  # in which a value was computed; not of state
        self.again: dict[tuple[Value, int], Value] = {}

    def read(self) -> AtenGraph:
        placeholders = iter(self.inputs)
        inputs, returned = [], []
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                inputs.append(self._input(node, next(placeholders)))
            elif node.op == "get_attr":
                self.results[node] = (self._constant(node),)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                returned = [self.results[n][0] for n in node.args[0]]
        outputs = tuple(
            AtenOutput(o.name, o.role, v)
            for o, v in zip(self.tracing.outputs, returned, strict=True)
        )
        streams = self.tracing.streams.drawn
        return AtenGraph(tuple(inputs), tuple(self.nodes), outputs, self.constants, streams)

    def _input(self, node: torch.fx.Node, given: TracedInput) -> AtenInput:
        value = Value(given.name, shape_of(node.meta["val"].shape), dtype_name(given.dtype))
        self.results[node] = (value,)
        if given.role not in _STATE_ROLES:
            self.regions[value] = None
        return AtenInput(given.name, given.role, value)

    def _constant(self, node: torch.fx.Node) -> Value:
        name = str(node.target)
        if name in self.attributes:
            return self.attributes[name]
        tensor = operator.attrgetter(name)(self.module)
        origin = node.stack_trace or UNKNOWN
        if isinstance(tensor, torch.nn.Parameter):
            raise CaptureError(
                f"a parameter of shape {tuple(tensor.shape)} is used that the model does not own",
                where=origin,
                why="it would be frozen into the program as a constant",
                remedy="register it in the model as an nn.Parameter, or pass it detached; for a "
                "function that calls a model, compile_function(..., model=model)",
            )
        if not isinstance(tensor, torch.Tensor) or isinstance(tensor, FakeTensor):
            raise CaptureError(f"a {type(tensor).__name__} cannot be a constant", where=origin)
        value = Value(name.lstrip("_"), shape_of(tensor.shape), dtype_name(tensor.dtype))
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        self.constants[value] = wide.detach().cpu().contiguous().numpy().copy()
        self.attributes[name] = value
        return value

    def _call(self, node: torch.fx.Node) -> None:
        if node.target is operator.getitem:
            source, position = node.args
            assert isinstance(source, torch.fx.Node)
            assert isinstance(position, int)
            self.results[node] = (self.results[source][position],)
            return
        origin = node.stack_trace or UNKNOWN
        if not isinstance(node.target, torch._ops.OpOverload):
            raise CaptureError(f"{node.target} is not an operator", where=origin)
        produced = node.meta.get("val")
        tensors = produced if isinstance(produced, (tuple, list)) else [produced]
        self.region = region_of(node)
        arguments = self._named_arguments(node, node.target)
        index = len(self.nodes)
        self.results[node] = tuple(
            _value(f"{index}" if len(tensors) == 1 else f"{index}.{i}", t)
            for i, t in enumerate(tensors)
        )
        self.regions.update(dict.fromkeys(self.results[node], self.region))
        target = str(node.target)
        if target.startswith("hearth."):
            target = target.removesuffix(".default")
        self.nodes.append(AtenNode(index, target, (), arguments, self.results[node], origin))

    def _named_arguments(
        self, node: torch.fx.Node, target: torch._ops.OpOverload
    ) -> dict[str, Argument]:
        named: dict[str, Argument] = {}
        for position, argument in enumerate(target._schema.arguments):
            if argument.name in _IGNORED_ARGUMENTS:
                continue
            given = argument.default_value if argument.has_default_value() else None
            if position < len(node.args):
                given = node.args[position]
            given = node.kwargs.get(argument.name, given)
            named[argument.name] = self._plain(given, node)
        return named

    def _plain(self, argument: Any, node: torch.fx.Node) -> Argument:
        if isinstance(argument, torch.fx.Node):
            return self._read(self.results[argument][0], node.stack_trace or UNKNOWN)
        if isinstance(argument, (list, tuple)):
            return tuple(self._plain(a, node) for a in argument)
        if isinstance(argument, torch.dtype):
            return dtype_name(argument)
        if argument is None or isinstance(argument, (bool, int, float, str)):
            return argument
        raise CaptureError(
            f"{node.target} has an argument of type {type(argument).__name__}",
            where=node.stack_trace or UNKNOWN,
        )

    def _read(self, value: Value, origin: str) -> Value:
        """The value; inside of a second pass, what comes from outside is read anew."""
        region = self.region
        if region is None or self.regions.get(value, region) == region:
            return value
        if (value, region) not in self.again:
            index = len(self.nodes)
            new = self.again[value, region] = Value(f"{index}", value.shape, value.dtype)
            self.nodes.append(
                AtenNode(
                    index, "hearth.recompute", (), {"self": value, "region": region}, (new,), origin
                )
            )
        return self.again[value, region]


def _value(name: str, produced: Any) -> Value:
    if not isinstance(produced, torch.Tensor):
        return Value(name, (), "none")
    return Value(name, shape_of(produced.shape), dtype_name(produced.dtype))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Tracing: run a function on fake tensors and read the operations it performs.

The only file that touches PyTorch's internals (with `decompositions/`, its table).  A function is
traced at three concrete batch sizes and the three graphs are unified (`unify.py`): no symbolic
integer ever reaches PyTorch, so whatever it can differentiate it can trace.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from torch._higher_order_ops import effects
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.autograd.graph import GradientEdge
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from hearth.capture.autocast import as_on_cuda
from hearth.capture.canonicalize import canonicalize
from hearth.capture.checkpointing import marked, region_of
from hearth.capture.decompositions import table
from hearth.capture.distributions import decompositions
from hearth.capture.explain import explained
from hearth.capture.fastpath import without_fastpath
from hearth.capture.graph import Argument, AtenGraph, AtenInput, AtenNode, AtenOutput, Value
from hearth.capture.index_rewrites import INDEX_REWRITES
from hearth.capture.origins import UNKNOWN, Origins
from hearth.capture.random import Streams, rewindable
from hearth.capture.rewrites import REWRITES
from hearth.capture.single import GradientReached, check_single, untraced
from hearth.capture.statistics import STATISTICS
from hearth.capture.substitutes import substituted
from hearth.capture.unify import unify
from hearth.errors import CaptureError
from hearth.ir.dim import shape_of

BATCH_SIZES = (7, 11, 17)
_IGNORED_ARGUMENTS = frozenset(
    ("device", "layout", "memory_format", "pin_memory", "generator", "non_blocking", "out_dtype")
)
_STATE_ROLES = frozenset(("parameter", "buffer", "optimizer"))


@dataclass(frozen=True)
class TracedInput:
    """An input of a captured function.

    `batched` says whether dimension 0 is the batch, or names all dimensions that are.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    batched: bool | tuple[int, ...] = False

    @property
    def batch_axes(self) -> tuple[int, ...]:
        if isinstance(self.batched, tuple):
            return self.batched
        return (0,) if self.batched else ()

    def at(self, batch: int) -> tuple[int, ...]:
        return tuple(batch if k in self.batch_axes else e for k, e in enumerate(self.shape))


@dataclass(frozen=True)
class TracedOutput:
    """A tensor that the captured function returns."""

    name: str
    role: str
    tensor: torch.Tensor


@dataclass
class Tracing:
    """What a captured function may use while it is traced: where we are, and random streams."""

    origins: Origins
    streams: Streams
    outputs: list[TracedOutput] = field(default_factory=list)

    def gradient(
        self, scalar: torch.Tensor, tensors: Sequence[torch.Tensor | GradientEdge]
    ) -> list[torch.Tensor | None]:
        """`torch.autograd.grad`, with every operation placed at the line it differentiates."""
        self.origins.follow_gradient(scalar.grad_fn)
        # PyTorch takes both kinds at once, its annotation one of them.
        sources = cast("list[torch.Tensor]", list(tensors))
        return list(torch.autograd.grad(scalar, sources, allow_unused=True))


class SingleSample(Tracing):
    """In place of a trace, to see which operations a single sample meets."""

    def gradient(self, *_: Any) -> list[torch.Tensor | None]:
        self.origins.end_forward()
        raise GradientReached


Traced = Callable[[dict[str, torch.Tensor], Tracing], Sequence[TracedOutput]]


def capture(
    function: Traced,
    inputs: Sequence[TracedInput],
    modules: Mapping[torch.nn.Module, str] | None = None,
    rewrites: Mapping[Any, Callable[..., Any]] = REWRITES | STATISTICS | INDEX_REWRITES,
    place: str | None = None,
) -> AtenGraph:
    """Trace `function(name → tensor, tracing)` into one graph that holds for every batch size.

    `modules` names the modules for origins, or `place` is the origin of every operation.  The
    inputs with the roles "seed" and "step" feed the random operations.  Raises `CaptureError` or
    `UnsupportableError`.
    """
    batches = BATCH_SIZES if any(i.batched for i in inputs) else BATCH_SIZES[:1]
    origins = [Origins(modules or {}, place) for _ in batches]
    graphs = [
        canonicalize(_trace(function, inputs, batch, own, rewrites))
        for batch, own in zip(batches, origins, strict=True)
    ]
    graph = unify(graphs, batches)
    if len(batches) > 1:
        single = Origins(modules or {}, place)
        outputs = _run_single(function, inputs, single, rewrites)
        check_single(outputs, graph, single.calls, origins[0].calls)
    return graph


def _run_single(
    function: Traced,
    inputs: Sequence[TracedInput],
    origins: Origins,
    rewrites: Mapping[Any, Callable[..., Any]],
) -> dict[str, tuple[int, ...]] | None:
    """Runs the function, up to its gradient, on one sample: the shapes of its outputs.

    None where the model refuses a single sample, as BatchNorm does with one value per channel.
    """
    nothing = torch.empty(0)
    tracing = SingleSample(origins, Streams(nothing, nothing))

    def named(*tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        with _Interception(origins, rewrites):
            outputs = function({i.name: t for i, t in zip(inputs, tensors, strict=True)}, tracing)
        return {o.name: o.tensor for o in outputs}

    with _canonical_backends(), rewindable(tracing.streams), untraced():
        fakes = [torch.empty(i.at(1), dtype=i.dtype) for i in inputs]
        try:
            results = dispatch_functionalize(named, FunctionalTensorMode())(*fakes)
            return {name: tuple(tensor.shape) for name, tensor in results.items()}
        except GradientReached:
            return {}
        except Exception:
            return None


def _trace(
    function: Traced,
    inputs: Sequence[TracedInput],
    batch: int,
    origins: Origins,
    rewrites: Mapping[Any, Callable[..., Any]],
) -> AtenGraph:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        fakes = [torch.empty(i.at(batch), dtype=i.dtype) for i in inputs]
    nothing = torch.empty(0)
    tracing = Tracing(origins, Streams(nothing, nothing))
    names = [i.name for i in inputs]

    def flat(*tensors: torch.Tensor) -> list[torch.Tensor]:
        random = {i.role: t for i, t in zip(inputs, tensors, strict=True)}
        tracing.streams.seed = random.get("seed", nothing)
        tracing.streams.step = random.get("step", nothing)
        result: list[torch.Tensor] = dispatch_functionalize(inner, FunctionalTensorMode())(*tensors)
        return result

    def inner(*tensors: torch.Tensor) -> list[torch.Tensor]:
        with _Interception(tracing.origins, rewrites):
            outputs = function(dict(zip(names, tensors, strict=True)), tracing)
        tracing.outputs = list(outputs)
        return [o.tensor for o in outputs]

    rules = {**table(), **decompositions(tracing.streams)}
    with _canonical_backends(), rewindable(tracing.streams), explained(tracing.origins):
        module = make_fx(flat, tracing_mode="fake", decomposition_table=rules)(*fakes)
    return _Reader(module, inputs, tracing).read()


class _Interception(TorchFunctionMode):
    """Above autograd: notes the line of every call, and replaces those that have a rewrite."""

    def __init__(self, origins: Origins, rewrites: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self.origins, self.rewrites = origins, rewrites

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        sequence = self.origins.enter(func)
        origin, rule, kwargs = self.origins.current, self.rewrites.get(func), kwargs or {}
        result = NotImplemented if rule is None else rule(*args, **kwargs)
        if result is NotImplemented:
            result = func(*args, **kwargs)
        self.origins.leave(sequence, origin)
        return result


@contextmanager
def _canonical_backends() -> Iterator[None]:
    """Composite kernels take their portable path; nothing of the process changes for good."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel([SDPBackend.MATH]))
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))  # from 16 images on
        stack.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())
        torch._C._set_mkldnn_enabled(False)
        stack.enter_context(torch.fx.traceback.preserve_node_meta())
        # Checks of linear algebra that raise have no result: they are pruned, not ordered.
        stack.enter_context(mock.patch.object(effects, "has_effects", return_value=False))
        stack.enter_context(without_fastpath())
        stack.enter_context(as_on_cuda())
        stack.enter_context(substituted())
        stack.enter_context(marked())
        yield


class _Reader:
    """Reads an FX graph into plain data: arguments by name, one `Value` per tensor."""

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

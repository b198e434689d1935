"""Tracing: run a function on fake tensors and read the operations it performs.

A function is traced at three concrete batch sizes and the three graphs, as plain data
(`read_fx.py`), are unified (`unify.py`): no symbolic integer ever reaches PyTorch, so whatever it
can differentiate it can trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._higher_order_ops import effects
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from hearth.capture.autocast import as_on_cuda
from hearth.capture.canonicalize import canonicalize
from hearth.capture.checkpointing import marked
from hearth.capture.decompositions import table
from hearth.capture.distributions import decompositions
from hearth.capture.explain import explained
from hearth.capture.fastpath import without_fastpath
from hearth.capture.graph import AtenGraph
from hearth.capture.index_rewrites import INDEX_REWRITES
from hearth.capture.origins import Origins
from hearth.capture.random import Streams, rewindable
from hearth.capture.read_fx import read_fx
from hearth.capture.rewrites import REWRITES
from hearth.capture.single import GradientReached, check_single, untraced
from hearth.capture.statistics import STATISTICS
from hearth.capture.substitutes import substituted
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.capture.unify import unify

BATCH_SIZES = (7, 11, 17)


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
    return read_fx(module, inputs, tracing)


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

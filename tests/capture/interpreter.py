"""Runs a captured graph with torch, in float64 or as declared: the tests' meaning of each core op.

Written from the sentences in `hearth/capture/opset.py`, independently of how they were produced.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from hearth.capture.graph import Argument, AtenGraph, AtenNode, BatchScalar, Value
from hearth.capture.opset import (
    BINARY_OPS,
    BITWISE_OPS,
    COMPARE_OPS,
    CORE_OPS,
    SHIFT_OPS,
    UNARY_OPS,
)
from hearth.capture.random import uniform
from hearth.ir.dim import Dim

_NAMES = {"abs": torch.abs, "div": torch.true_divide, "relu": torch.relu}


class Interpreter:
    """`wide=True` computes every float32 in float64; a node's shape and dtype are checked."""

    def __init__(self, graph: AtenGraph, batch: int, wide: bool = True) -> None:
        self.graph, self.batch, self.wide = graph, batch, wide
        self.values: dict[Value, torch.Tensor] = {}

    def dtype(self, name: str) -> torch.dtype:
        return torch.float64 if self.wide and name == "float32" else getattr(torch, name)

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[tuple[str, str], torch.Tensor]:
        """Inputs by name; outputs by (role, name)."""
        for i in self.graph.inputs:
            given = inputs[i.name]
            assert tuple(given.shape) == self.extents(i.value), (i.name, given.shape)
            self.values[i.value] = given.to(self.dtype(i.value.dtype))
        for value, data in self.graph.constants.items():
            self.values[value] = torch.from_numpy(data).to(self.dtype(value.dtype))
        for node in self.graph.nodes:
            self._step(node)
        return {(o.role, o.name): self.values[o.value] for o in self.graph.outputs}

    def extents(self, value: Value) -> tuple[int, ...]:
        return tuple(e.at(self.batch) for e in value.shape)

    def _step(self, node: AtenNode) -> None:
        assert node.target in CORE_OPS, f"not a core operation: {node}"
        assert not node.kwargs
        result = OPS[node.target](self, node, *(self._argument(a) for a in node.args))
        results = result if isinstance(result, tuple) else (result,)
        for value, tensor in zip(node.results, results, strict=True):
            assert tuple(tensor.shape) == self.extents(value), f"{node}: {tuple(tensor.shape)}"
            assert tensor.dtype == self.dtype(value.dtype), f"{node}: {tensor.dtype}"
            self.values[value] = tensor

    def _argument(self, argument: Argument) -> Any:
        if isinstance(argument, Value):
            return self.values[argument]
        if isinstance(argument, (Dim, BatchScalar)):
            return argument.at(self.batch)
        if isinstance(argument, tuple):
            return tuple(self._argument(a) for a in argument)
        return argument


def _same_dtypes(*operands: Any) -> None:
    assert len({t.dtype for t in operands if isinstance(t, torch.Tensor)}) == 1, operands


def _pointwise(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(self: Interpreter, node: AtenNode, *operands: Any) -> torch.Tensor:
        _same_dtypes(*operands)
        like = next(t for t in operands if isinstance(t, torch.Tensor))
        tensors = [
            t if isinstance(t, torch.Tensor) else torch.tensor(t, dtype=like.dtype)
            for t in operands
        ]
        return function(*tensors)

    return run


def _where(self: Interpreter, node: AtenNode, c: torch.Tensor, a: Any, b: Any) -> torch.Tensor:
    dtype = self.dtype(node.dtype)
    a, b = (t if isinstance(t, torch.Tensor) else torch.tensor(t, dtype=dtype) for t in (a, b))
    _same_dtypes(a, b)
    return torch.where(c, a, b)


def _index_range(self: Interpreter, node: AtenNode, y: torch.Tensor, size: int, other: Any) -> Any:
    inside = (y >= 0) & (y < size)
    assert bool((inside if other is None else inside | (y == other)).all())
    return y


def _cast(self: Interpreter, node: AtenNode, x: torch.Tensor, dtype: str) -> torch.Tensor:
    return x.to(self.dtype(dtype))


def _slice(self: Interpreter, node: AtenNode, x: Any, axis: int, a: int, b: int, s: int) -> Any:
    assert 0 <= a <= b <= x.shape[axis]
    return x[(slice(None),) * axis + (slice(a, b, s),)]


def _pad(self: Interpreter, node: AtenNode, x: Any, amounts: Any, value: Any) -> torch.Tensor:
    return F.pad(x, [n for pair in reversed(amounts) for n in pair], value=value)


def _conv_backward(mask: list[bool]) -> Callable[..., torch.Tensor]:
    def run(
        self: Interpreter, node: AtenNode, g: Any, other: Any, shape: Any, *geometry: Any
    ) -> Any:
        made = g.new_zeros(shape)
        x, w = (made, other) if mask[0] else (other, made)
        grads = torch.ops.aten.convolution_backward(g, x, w, None, *geometry, mask)
        return grads[0 if mask[0] else 1]

    return run


def _max_pool_grad(
    self: Interpreter, node: AtenNode, g: Any, i: Any, shape: Any, kernel: Any, *_: Any
) -> Any:
    rank = len(kernel)
    flat = g.new_zeros(shape).flatten(-rank)
    return flat.scatter_add(-1, i.flatten(-rank), g.flatten(-rank)).reshape(shape)


def _avg_pool_grad(self: Interpreter, node: AtenNode, g: Any, shape: Any, *rest: Any) -> Any:
    backward = getattr(torch.ops.aten, f"avg_pool{len(rest[0])}d_backward")
    return backward(g, g.new_zeros(shape), *rest)


def _window(self: Interpreter, node: AtenNode, x: Any, *geometry: Any) -> torch.Tensor:
    """Axis by axis: the windows of a padded axis, of which every `dilation`-th element is kept."""
    lead = x.dim() - len(geometry[0])
    for axis, (kernel, stride, padding, dilation) in enumerate(zip(*geometry, strict=True), lead):
        padded = F.pad(x, [0, 0] * (x.dim() - axis - 1) + [padding, padding])
        x = padded.unfold(axis, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
    return x


def _iota(self: Interpreter, node: AtenNode, length: int, start: int, step: int) -> torch.Tensor:
    return (torch.arange(length) * step + start).to(self.dtype(node.dtype))


def _rand(self: Interpreter, node: AtenNode, seed: Any, step: Any, shape: Any, stream: int) -> Any:
    return uniform(seed, step, shape, stream).to(self.dtype(node.dtype))


def _prod(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep)
    return x


def _index_add(g: torch.Tensor, indices: torch.Tensor, size: int) -> torch.Tensor:
    inside = (indices >= 0) & (indices < size)
    return g.new_zeros(size, *g.shape[1:]).index_add(0, indices[inside], g[inside])


def _numbers(x: torch.Tensor) -> torch.Tensor:
    return x.int() if x.dtype == torch.bool else x


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, node, *args: function(*args)


def _name(target: str) -> Any:
    short = target.split(".")[1]
    return _NAMES.get(short) or getattr(torch, short, None) or getattr(operator, short)


SCANS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda x: x.cumsum(-1),
    "prod": lambda x: x.cumprod(-1),
    "max": lambda x: x.cummax(-1)[0],
    "min": lambda x: x.cummin(-1)[0],
    "logsumexp": lambda x: x.logcumsumexp(-1),
}
aten = torch.ops.aten
OPS: dict[str, Callable[..., Any]] = {
    **{t: _pointwise(_name(t)) for t in (*UNARY_OPS, *BINARY_OPS, *COMPARE_OPS, *BITWISE_OPS)},
    **{f"aten.pow.{kind}": _pointwise(torch.pow) for kind in ("Tensor_Scalar", "Scalar")},
    "aten.pow.Tensor_Tensor": _pointwise(torch.pow),
    "aten.floor_divide.default": _pointwise(torch.floor_divide),
    **{t: _pointwise(_name(t)) for t in SHIFT_OPS},
    "aten.where.self": _where,
    "aten.threshold_backward.default": _plain(lambda g, x, t: torch.where(x <= t, 0.0, g)),
    "hearth.cast": _cast,
    "hearth.index_range": _index_range,
    "hearth.recompute": _plain(lambda x, region: x),
    "aten.sum.dim_IntList": _plain(lambda x, axes, keep: x.sum(axes, keep)),
    "aten.prod.dim_int": _plain(_prod),
    "aten.amax.default": _plain(torch.amax),
    "aten.amin.default": _plain(torch.amin),
    "aten.argmax.default": _plain(lambda x, *rest: _numbers(x).argmax(*rest)),
    "aten.argmin.default": _plain(lambda x, *rest: _numbers(x).argmin(*rest)),
    "aten.reshape.default": _plain(torch.reshape),
    "aten.permute.default": _plain(torch.permute),
    "aten.expand.default": _plain(lambda x, shape: x.expand(shape)),
    "aten.slice.Tensor": _slice,
    "aten.flip.default": _plain(torch.flip),
    "aten.cat.default": _plain(torch.cat),
    "aten.constant_pad_nd.default": _pad,
    "aten.mm.default": _plain(torch.mm),
    "aten.bmm.default": _plain(torch.bmm),
    "aten.convolution.default": _plain(aten.convolution),
    "hearth.conv_input_grad": _conv_backward([True, False, False]),
    "hearth.conv_weight_grad": _conv_backward([False, True, False]),
    "aten.max_pool2d_with_indices.default": _plain(aten.max_pool2d_with_indices),
    "aten.max_pool3d_with_indices.default": _plain(aten.max_pool3d_with_indices),
    "hearth.max_pool_grad": _max_pool_grad,
    "aten.avg_pool2d.default": _plain(aten.avg_pool2d),
    "aten.avg_pool3d.default": _plain(aten.avg_pool3d),
    "hearth.window": _window,
    "hearth.avg_pool_grad": _avg_pool_grad,
    "aten.index_select.default": _plain(torch.index_select),
    "aten.gather.default": _plain(torch.gather),
    "hearth.order": _plain(
        lambda x, n, down: x.sort(dim=-1, descending=down, stable=True)[1][..., :n]
    ),
    "hearth.scan": lambda self, node, x, kind: SCANS[kind](x),
    "hearth.index_add": _plain(_index_add),
    "aten.full.default": lambda self, node, shape, value: torch.full(
        shape, value, dtype=self.dtype(node.dtype)
    ),
    "hearth.iota": _iota,
    "hearth.rand": _rand,
}

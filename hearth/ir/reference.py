"""The meaning of a graph: a slow NumPy interpreter that everything else is tested against.

It knows nothing of kernels, memory or speed.  Floats are computed in float32, or in float64 when
asked; then constants and batch-dependent numbers are float64 too, so that a lowered program can be
compared with PyTorch in float64 to the last digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hearth.errors import InvalidInputError
from hearth.ir.dim import Shape
from hearth.ir.dtype import numpy_dtype
from hearth.ir.graph import (
    Constant,
    Conv,
    ConvInputGrad,
    ConvWeightGrad,
    Dot,
    Expand,
    Gather,
    Graph,
    Input,
    Node,
    Op,
    Pack,
    Pad,
    Permute,
    Pointwise,
    Recompute,
    Reduce,
    Reshape,
    Slice,
    Triangular,
    Window,
    WindowSpec,
    WindowTranspose,
)
from hearth.ir.reference_convolution import conv, conv_input_grad, conv_weight_grad
from hearth.ir.scalar import SCALAR_OPS, Apply, Arg, BatchValue, Const, Coord, Expr, Scalar, walk

Extents = tuple[int, ...]
Array = Any  # np.ndarray; NumPy's own stubs lose the element type on every operator

Rule = Callable[[Any, list[Array], Extents, int], Array]  # (op, inputs, extents, batch size)


def run(
    graph: Graph,
    feeds: Mapping[str, Array],
    batch: int,
    float_dtype: npt.DTypeLike = np.float32,
) -> dict[str, Array]:
    """Execute a graph for one batch size: input name -> array in, output name -> array out.

    Feeds are cast to the element type of their input.  Raises `InvalidInputError` where one is
    missing or has the wrong shape.
    """
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            dtype, extents = numpy_dtype(node.dtype, float_dtype), _extents(node.shape, batch)
            match node.op:
                case Input(name=name):
                    value = _fed(name, feeds, extents)
                case Constant(name=name):
                    value = graph.constants[name]
                case Pointwise(expr=expr):
                    leaf = _leaves([values[i] for i in node.inputs], extents, batch)
                    elements = evaluate(expr, leaf, float_dtype)
                    value = np.broadcast_to(elements, extents)
                case _:
                    inputs = [values[source] for source in node.inputs]
                    value = _RULES[type(node.op)](node.op, inputs, extents, batch)
            values[node] = np.asarray(value).astype(dtype, copy=False)
            assert values[node].shape == extents, f"{node.op}: wrong shape"
    return {output.name: values[output.node] for output in graph.outputs}


def evaluate(
    expr: Expr, leaf: Callable[[Expr], Array], float_dtype: npt.DTypeLike = np.float32
) -> Array:
    """A scalar expression over arrays; `leaf` gives the value of everything but constants and ops.

    Shared sub-expressions are computed once.
    """
    values: dict[int, Array] = {}
    for sub in walk([expr]):
        dtype = numpy_dtype(sub.dtype, float_dtype)
        match sub:
            case Const():
                value = np.asarray(sub.value, dtype)
            case Apply(op=op, args=args) if op.startswith("to_float"):
                value = np.asarray(values[id(args[0])], dtype)
            case Apply(op=op, args=args):
                value = SCALAR_OPS[op].reference(*(values[id(a)] for a in args))
            case _:
                value = leaf(sub)
        values[id(sub)] = np.asarray(value).astype(dtype, copy=False)
    return values[id(expr)]


def _fed(name: str, feeds: Mapping[str, Array], expected: Extents) -> Array:
    if name not in feeds:
        raise InvalidInputError(f"input {name!r} is missing")
    array = np.asarray(feeds[name])
    if array.shape != expected:
        raise InvalidInputError(f"input {name!r} has shape {array.shape}, expected {expected}")
    return array


def _extents(shape: Shape, batch: int) -> Extents:
    return tuple(extent.at(batch) for extent in shape)


# ---------------------------------------------------------------- elements


def _leaves(inputs: list[Array], extents: Extents, batch: int) -> Callable[[Expr], Array]:
    def leaf(expr: Expr) -> Array:
        match expr:
            case Arg(position=position):
                return inputs[position]
            case Coord(axis=None):
                return np.arange(np.prod(extents, dtype=np.int64)).reshape(extents)
            case Coord(axis=int(axis)):
                along = [n if a == axis else 1 for a, n in enumerate(extents)]
                return np.arange(extents[axis]).reshape(along)
            case BatchValue():
                return expr.at(batch)
        raise AssertionError(f"{type(expr).__name__} does not belong in a graph")

    return leaf


def _reduce(op: Reduce, inputs: list[Array], _: Extents, __: int) -> Array:
    (x,) = inputs
    match op.kind:
        case "sum":
            return np.sum(x, op.axes, dtype=x.dtype, keepdims=True)
        case "prod":
            return np.prod(x, op.axes, dtype=x.dtype, keepdims=True)
        case "max":
            return np.max(x, op.axes, keepdims=True)
        case "min":
            return np.min(x, op.axes, keepdims=True)
        case "argmax" | "argmin":
            kept = [a for a in range(x.ndim) if a not in op.axes]
            rows = x.transpose(*kept, *op.axes).reshape(*(x.shape[a] for a in kept), -1)
            # NumPy's rule is ours: the first extreme value, and NaN counts as one.
            found = np.argmax(rows, -1) if op.kind == "argmax" else np.argmin(rows, -1)
            return found.reshape([1 if a in op.axes else e for a, e in enumerate(x.shape)])
    raise AssertionError(f"unknown reduction {op.kind}")


# ---------------------------------------------------------------- views


def _reshape(_: Reshape, inputs: list[Array], extents: Extents, __: int) -> Array:
    return inputs[0].reshape(extents)


def _recompute(_: Recompute, inputs: list[Array], __: Extents, ___: int) -> Array:
    return inputs[0]


def _permute(op: Permute, inputs: list[Array], _: Extents, __: int) -> Array:
    return inputs[0].transpose(op.order)


def _expand(_: Expand, inputs: list[Array], extents: Extents, __: int) -> Array:
    return np.broadcast_to(inputs[0], extents)


def _slice(op: Slice, inputs: list[Array], extents: Extents, batch: int) -> Array:
    picks = [
        start.at(batch) + step * np.arange(n)
        for start, step, n in zip(op.start, op.step, extents, strict=True)
    ]
    return _pick(inputs[0], picks, None)


def _pad(op: Pad, inputs: list[Array], extents: Extents, batch: int) -> Array:
    picks = [np.arange(n) - low.at(batch) for low, n in zip(op.low, extents, strict=True)]
    return _pick(inputs[0], picks, op.fill)


def _window(op: Window, inputs: list[Array], extents: Extents, _: int) -> Array:
    spec, (x,) = op.spec, inputs
    lead, positions = x.ndim - spec.rank, extents[-2 * spec.rank :]
    picks = [
        o * s + k * d - p
        for (o, k), s, d, p in zip(
            _position_and_tap(spec, positions),
            spec.stride,
            spec.dilation,
            spec.padding,
            strict=True,
        )
    ]
    return _pick_spatial(x, picks, lead, op.fill)


def _window_transpose(op: WindowTranspose, inputs: list[Array], extents: Extents, _: int) -> Array:
    spec, (x,) = op.spec, inputs
    lead, spatial = x.ndim - spec.rank, extents[-2 * spec.rank :]
    picks = []
    for axis, (i, k) in enumerate(_position_and_tap(spec, spatial)):
        offset = i + spec.padding[axis] - k * spec.dilation[axis]
        whole = offset % spec.stride[axis] == 0
        picks.append(np.where(whole, offset // spec.stride[axis], -1))
    return _pick_spatial(x, picks, lead, op.fill)


def _position_and_tap(spec: WindowSpec, extents: Sequence[int]) -> list[tuple[Array, Array]]:
    """Per spatial axis, positions as a column and taps as a row."""
    return [
        (np.arange(n)[:, None], np.arange(k)[None, :])
        for n, k in zip(extents[: spec.rank], spec.kernel, strict=True)
    ]


def _pick_spatial(x: Array, picks: list[Array], lead: int, fill: Scalar) -> Array:
    """Element [*lead, *n, *k] is x[*lead, picks[0][n0, k0], ...], or `fill` outside."""
    rank = len(picks)
    flat = [pick.reshape(-1) for pick in picks]
    taken = _pick(x, [*(np.arange(n) for n in x.shape[:lead]), *flat], fill)
    split = taken.reshape(*x.shape[:lead], *itertools.chain(*(pick.shape for pick in picks)))
    order = [lead + 2 * i for i in range(rank)] + [lead + 2 * i + 1 for i in range(rank)]
    return split.transpose(*range(lead), *order)


def _pick(x: Array, picks: list[Array], fill: Scalar | None) -> Array:
    """The outer product of index vectors, with `fill` where one is out of range."""
    grid = np.ix_(*picks) if picks else ()
    if fill is None:
        assert all(((p >= 0) & (p < n)).all() for p, n in zip(picks, x.shape, strict=True))
        return x[grid]
    inside = np.ones((), np.bool_)
    for pick, extent in zip(grid, x.shape, strict=True):
        inside = inside & (pick >= 0) & (pick < extent)
    if x.size == 0:
        return np.full(inside.shape, fill, x.dtype)
    clipped = [np.clip(pick, 0, n - 1) for pick, n in zip(grid, x.shape, strict=True)]
    return np.where(inside, x[tuple(clipped)], x.dtype.type(fill))


def _gather(op: Gather, inputs: list[Array], _: Extents, __: int) -> Array:
    x, index = inputs
    assert ((index >= 0) & (index < x.shape[op.axis])).all(), "gather: an index is out of range"
    kept = tuple(slice(None) if axis == op.axis else slice(n) for axis, n in enumerate(index.shape))
    return np.take_along_axis(x[kept], index.astype(np.int64), op.axis)


def _dot(op: Dot, inputs: list[Array], _: Extents, __: int) -> Array:
    """What a mark lets a target leave out is left out: a wrong mark gives wrong values."""
    a, b = inputs
    lower = op.triangular or Triangular()
    a, b = np.tril(a) if lower.a else a, np.tril(b) if lower.b else b
    a = a.swapaxes(-1, -2) if op.transpose_a else a
    b = b.swapaxes(-1, -2) if op.transpose_b else b
    product = np.matmul(a, b)
    return np.tril(product) if lower.result else product


def _pack(op: Pack, inputs: list[Array], extents: Extents, _: int) -> Array:
    packed = np.zeros(extents, inputs[0].dtype)
    for offset, part in zip(op.offsets, inputs, strict=True):
        packed[offset : offset + part.size] = part.reshape(-1)
    return packed


def _without_batch(rule: Callable[[Any, list[Array], Extents], Array]) -> Rule:
    return lambda op, inputs, extents, _: rule(op, inputs, extents)


_RULES: dict[type[Op], Rule] = {
    Reduce: _reduce,
    Reshape: _reshape,
    Permute: _permute,
    Recompute: _recompute,
    Expand: _expand,
    Slice: _slice,
    Pad: _pad,
    Window: _window,
    WindowTranspose: _window_transpose,
    Gather: _gather,
    Dot: _dot,
    Conv: _without_batch(conv),
    ConvInputGrad: _without_batch(conv_input_grad),
    ConvWeightGrad: _without_batch(conv_weight_grad),
    Pack: _pack,
}

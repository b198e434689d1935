"""Views, slices, padding and concatenation, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.capture.graph import Argument, Value
from hearth.capture.rewriter import Call, Rewriter, extents, form

# -------------------------------------------------------------------------------------------- views


@form(
    *("aten.view.default", "aten._unsafe_view.default", "aten.reshape.default"),
    *("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default"),
)
def _reshape(r: Rewriter, c: Call) -> Argument:
    return r.reshape(c.value(), c.shape)


@form("aten.expand.default")
def _expand(r: Rewriter, c: Call) -> Argument:
    return r.expand(c.value(), c.shape)


@form("aten.t.default")
def _t(r: Rewriter, c: Call) -> Argument:
    return r.permute(c.value(), tuple(reversed(range(len(c.shape)))))


@form("aten.transpose.int")
def _transpose(r: Rewriter, c: Call) -> Argument:
    axes = list(range(len(c.shape)))
    if not axes:
        return c.value()
    a, b = c.integer("dim0"), c.integer("dim1")
    axes[a], axes[b] = axes[b], axes[a]
    return r.permute(c.value(), axes)


@form("aten.permute.default")
def _permute(r: Rewriter, c: Call) -> Argument:
    return r.permute(c.value(), [a % len(c.shape) for a in c.integers("dims")])


@form("aten.flip.default")
def _flip(r: Rewriter, c: Call) -> Argument:
    axes = tuple(sorted(a % len(c.shape) for a in c.integers("dims")))
    return r.emit(c.node.target, (c.value(), axes), c.shape, c.dtype)


def _bounds(c: Call, length: int) -> tuple[int, int]:
    """Python's rules for negative and overlong slice bounds."""

    def bound(name: str, default: int) -> int:
        given = c.arguments.get(name)
        position = given if isinstance(given, int) else default
        return min(max(position + length if position < 0 else position, 0), length)

    start, stop = bound("start", 0), bound("end", length)
    return start, max(start, stop)


@form("aten.slice.Tensor")
def _slice(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    return r.slice(x, axis, *_bounds(c, extents(x)[axis]), c.integer("step"))


@form("aten.select.int")
def _select(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    position = c.integer("index") % extents(x)[axis]
    return r.reshape(r.slice(x, axis, position, position + 1), c.shape)


def _pieces(r: Rewriter, x: Value, axis: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(r.slice(x, axis, a, a + n) for a, n in zip(starts, sizes, strict=True))


@form("aten.split.Tensor", "aten.split_with_sizes.default")
def _split(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    sizes = [extents(v)[axis] for v in c.node.results]
    return _pieces(r, x, axis, sizes)


@form("aten.unbind.int")
def _unbind(r: Rewriter, c: Call) -> Argument:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    pieces = _pieces(r, x, axis, [1] * len(c.node.results))
    return tuple(r.reshape(p, c.shape) for p in pieces)


@form("aten.repeat.default")
def _repeat(r: Rewriter, c: Call) -> Argument:
    x, times = c.value(), c.integers("repeats")
    shape = (1,) * (len(times) - len(x.shape)) + extents(x)
    thin = r.reshape(x, tuple(e for extent in shape for e in (1, extent)))
    wide = r.expand(thin, tuple(e for pair in zip(times, shape, strict=True) for e in pair))
    return r.reshape(wide, c.shape)


@form("aten.cat.default")
def _cat(r: Rewriter, c: Call) -> Argument:
    tensors = c.values("tensors")
    parts = [v for v in tensors if extents(v) != (0,)]
    return r.cat(parts or tensors[:1], c.integer("dim") % len(c.shape), c.dtype)


@form("aten.stack.default")
def _stack(r: Rewriter, c: Call) -> Argument:
    axis = c.integer("dim") % len(c.shape)
    shape = tuple(1 if a == axis else e for a, e in enumerate(c.shape))
    return r.cat([r.reshape(v, shape) for v in c.values("tensors")], axis, c.dtype)


@form("aten.constant_pad_nd.default")
def _constant_pad(r: Rewriter, c: Call) -> Argument:
    x, flat, scalar = c.value(), c.integers("pad"), c["value"]
    assert isinstance(scalar, (int, float))
    last_first = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    amounts = [(0, 0)] * (len(x.shape) - len(last_first)) + last_first[::-1]
    return r.pad(x, amounts, scalar)


@form("aten.select_backward.default")
def _select_backward(r: Rewriter, c: Call) -> Argument:
    axis = c.integer("dim") % len(c.shape)
    position = c.integer("index") % c.shape[axis]
    thin = tuple(1 if a == axis else e for a, e in enumerate(c.shape))
    amounts = [(0, 0)] * len(c.shape)
    amounts[axis] = (position, c.shape[axis] - position - 1)
    return r.pad(r.reshape(c.value("grad_output"), thin), amounts)


@form("aten.slice_backward.default")
def _slice_backward(r: Rewriter, c: Call) -> Argument:
    """Zeros around; for a step of s, s - 1 zeros behind every element first."""
    g, axis, step = c.value("grad_output"), c.integer("dim") % len(c.shape), c.integer("step")
    start, _ = _bounds(c, c.shape[axis])
    shape = list(extents(g))
    if step > 1:
        spread = r.pad(
            r.reshape(g, (*shape[: axis + 1], 1, *shape[axis + 1 :])),
            [(0, step - 1 if a == axis + 1 else 0) for a in range(len(shape) + 1)],
        )
        shape[axis] *= step
        g = r.reshape(spread, tuple(shape))
    amounts = [(0, 0)] * len(shape)
    amounts[axis] = (start, c.shape[axis] - start - shape[axis])
    return r.pad(g, amounts)


@form("aten.slice_scatter.default", "aten.select_scatter.default")
def _scatter(r: Rewriter, c: Call) -> Argument | None:
    x = c.value()
    axis = c.integer("dim") % len(x.shape)
    length = extents(x)[axis]
    if c.arguments.get("step", 1) != 1:
        return None
    if "index" in c.arguments:
        start = c.integer("index") % length
        stop = start + 1
    else:
        start, stop = _bounds(c, length)
    shape = tuple(stop - start if a == axis else e for a, e in enumerate(extents(x)))
    middle = r.reshape(c.value("src"), shape)
    parts = [r.slice(x, axis, 0, start), middle, r.slice(x, axis, stop, length)]
    return r.cat(parts, axis, c.dtype)

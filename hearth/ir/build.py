"""Constructors of nodes: each infers shape and element type, and refuses what does not fit.

Lowering rules and passes make nodes only through these functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from hearth.errors import InternalError
from hearth.ir.dim import Dim, Shape, product, shape_of
from hearth.ir.dtype import INT32
from hearth.ir.graph import (
    Constant,
    Conv,
    ConvInputGrad,
    ConvSpec,
    ConvWeightGrad,
    Dot,
    Expand,
    Gather,
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
    Window,
    WindowSpec,
    WindowTranspose,
)
from hearth.ir.scalar import Expr, Scalar

ONE = Dim.of(1)


def input_node(name: str, role: str, shape: Shape, dtype: str) -> Node:
    return Node(Input(name, role), (), shape, dtype, name)


def constant(name: str, shape: Sequence[Dim | int], dtype: str, origin: str = "") -> Node:
    return Node(Constant(name), (), shape_of(shape), dtype, origin)


def pointwise(
    expr: Expr, *inputs: Node, shape: Sequence[Dim | int] | None = None, origin: str = ""
) -> Node:
    """The expression for each element; `shape` is needed only where the inputs do not give it."""
    own = [i.shape for i in inputs] + ([shape_of(shape)] if shape is not None else [])
    return Node(Pointwise(expr), inputs, broadcast(own, origin), expr.dtype, origin)


def reduce(kind: str, x: Node, axes: Sequence[int], origin: str = "") -> Node:
    """Reduced axes stay with extent 1."""
    normal = tuple(sorted({a % len(x.shape) for a in axes})) if x.shape else ()
    shape = tuple(ONE if i in normal else e for i, e in enumerate(x.shape))
    dtype = INT32 if kind in ("argmax", "argmin") else x.dtype
    return Node(Reduce(kind, normal), (x,), shape, dtype, origin)


def reshape(x: Node, shape: Sequence[Dim | int], origin: str = "") -> Node:
    target = shape_of(shape)
    if target == x.shape:
        return x
    if product(target) != product(x.shape):
        raise _refused(f"cannot reshape {x.shape} to {target}", origin)
    return Node(Reshape(), (x,), target, x.dtype, origin)


def permute(x: Node, order: Sequence[int], origin: str = "") -> Node:
    order = tuple(i % len(x.shape) for i in order)
    if sorted(order) != list(range(len(x.shape))):
        raise _refused(f"{order} is no permutation", origin)
    if order == tuple(range(len(order))):
        return x
    return Node(Permute(order), (x,), tuple(x.shape[i] for i in order), x.dtype, origin)


def expand(x: Node, shape: Sequence[Dim | int], origin: str = "") -> Node:
    """Broadcast to a shape; leading axes may be new."""
    target = shape_of(shape)
    x = reshape(x, (ONE,) * (len(target) - len(x.shape)) + x.shape, origin)
    if target == x.shape:
        return x
    if any(a not in (ONE, b) for a, b in zip(x.shape, target, strict=True)):
        raise _refused(f"cannot expand {x.shape} to {target}", origin)
    return Node(Expand(), (x,), target, x.dtype, origin)


def slice_(
    x: Node,
    start: Sequence[Dim | int],
    shape: Sequence[Dim | int],
    step: Sequence[int] | None = None,
    origin: str = "",
) -> Node:
    steps = tuple(step) if step is not None else (1,) * len(x.shape)
    target = shape_of(shape)
    if target == x.shape and all(s == 1 for s in steps):
        return x
    return Node(Slice(shape_of(start), steps), (x,), target, x.dtype, origin)


def pad(
    x: Node,
    low: Sequence[Dim | int],
    high: Sequence[Dim | int],
    fill: Scalar,
    origin: str = "",
) -> Node:
    """Surround with `fill`; negative amounts cut."""
    before, after = shape_of(low), shape_of(high)
    if all(amount == Dim() for amount in before + after):
        return x
    shape = tuple(e + a + b for e, a, b in zip(x.shape, before, after, strict=True))
    return Node(Pad(before, fill), (x,), shape, x.dtype, origin)


def window(x: Node, spec: WindowSpec, fill: Scalar, *, ceil: bool = False,
           origin: str = "") -> Node:  # fmt: skip
    lead, spatial = _split_spatial(x, spec.rank)
    positions = tuple(
        window_positions(e, k, s, p, d, ceil=ceil)
        for e, k, s, p, d in zip(
            spatial, spec.kernel, spec.stride, spec.padding, spec.dilation, strict=True
        )
    )
    shape = (*lead, *positions, *shape_of(spec.kernel))
    return Node(Window(spec, fill), (x,), shape, x.dtype, origin)


def window_transpose(x: Node, spec: WindowSpec, spatial: Sequence[Dim | int],
                     fill: Scalar, origin: str = "") -> Node:  # fmt: skip
    lead, _ = _split_spatial(x, spec.rank)
    shape = (*lead, *shape_of(spatial), *shape_of(spec.kernel))
    return Node(WindowTranspose(spec, fill), (x,), shape, x.dtype, origin)


def recompute(x: Node, region: int) -> Node:
    """The value, for what is computed once more in a region."""
    return Node(Recompute(region), (x,), x.shape, x.dtype, x.origin)


def gather(x: Node, index: Node, axis: int, origin: str = "") -> Node:
    if index.dtype != INT32:
        raise _refused(f"an index must be int32, not {index.dtype}", origin)
    if len(x.shape) != len(index.shape):
        raise _refused("gather needs operands of one rank", origin)
    return Node(Gather(axis % len(x.shape)), (x, index), index.shape, x.dtype, origin)


def dot(a: Node, b: Node, transpose_a: bool = False, transpose_b: bool = False,
        origin: str = "") -> Node:  # fmt: skip
    (*batch_a, m, k), (*batch_b, k_b, n) = a.shape, b.shape
    m, k = (k, m) if transpose_a else (m, k)
    k_b, n = (n, k_b) if transpose_b else (k_b, n)
    if batch_a != batch_b or k != k_b:
        raise _refused(f"cannot multiply {a.shape} by {b.shape}", origin)
    return Node(Dot(transpose_a, transpose_b), (a, b), (*batch_a, m, n), a.dtype, origin)


def conv(x: Node, w: Node, spec: ConvSpec, origin: str = "") -> Node:
    out = tuple(
        window_positions(e, k.static, s, p, d)
        for e, k, s, p, d in zip(
            x.shape[2:], w.shape[2:], spec.stride, spec.padding, spec.dilation, strict=True
        )
    )
    if x.shape[1] != w.shape[1] * spec.groups:
        raise _refused("channels do not match the weight", origin)
    return Node(Conv(spec), (x, w), (x.shape[0], w.shape[0], *out), x.dtype, origin)


def conv_input_grad(g: Node, w: Node, spec: ConvSpec, spatial: Sequence[Dim | int],
                    origin: str = "") -> Node:  # fmt: skip
    shape = (g.shape[0], w.shape[1] * spec.groups, *shape_of(spatial))
    return Node(ConvInputGrad(spec), (g, w), shape, g.dtype, origin)


def conv_weight_grad(g: Node, x: Node, spec: ConvSpec, kernel: Sequence[Dim | int],
                     origin: str = "") -> Node:  # fmt: skip
    shape = (g.shape[1], x.shape[1] // spec.groups, *shape_of(kernel))
    return Node(ConvWeightGrad(spec), (g, x), shape, g.dtype, origin)


def pack(name: str, parts: Sequence[Node], offsets: Sequence[int], length: int) -> Node:
    return Node(Pack(name, tuple(offsets)), tuple(parts), shape_of((length,)), parts[0].dtype)


def rebuilt(node: Node, inputs: Sequence[Node], op: Op | None = None) -> Node:
    """The node over other inputs of the same shapes."""
    return Node(op or node.op, tuple(inputs), node.shape, node.dtype, node.origin)


def broadcast(shapes: Sequence[Shape], origin: str = "") -> Shape:
    """NumPy's broadcasting rule; an extent must equal 1 or the other for every B."""
    rank = max((len(s) for s in shapes), default=0)
    out = [ONE] * rank
    for shape in shapes:
        for i, extent in enumerate(shape, rank - len(shape)):
            if out[i] == ONE:
                out[i] = extent
            elif extent not in (out[i], ONE):
                raise _refused(f"cannot broadcast {shapes}", origin)
    return tuple(out)


def window_positions(extent: Dim, kernel: int, stride: int, padding: int, dilation: int,
                     *, ceil: bool = False) -> Dim:  # fmt: skip
    """How many windows fit; `ceil` admits a last one that starts inside (PyTorch's ceil_mode)."""
    span = extent + 2 * padding - dilation * (kernel - 1) - 1
    if stride == 1:
        return span + 1
    size = span.static
    count = (size + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= extent.static + padding:
        count -= 1
    return Dim.of(count)


def _split_spatial(x: Node, rank: int) -> tuple[Shape, Shape]:
    return x.shape[: len(x.shape) - rank], x.shape[len(x.shape) - rank :]


def _refused(what: str, origin: str) -> InternalError:
    return InternalError(what, where=origin)

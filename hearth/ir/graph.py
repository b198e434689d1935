"""The tensor graph: what a program computes, before anyone decides how.

A node is an op (one of the frozen dataclasses below), its inputs, a shape and an element type.
Nodes have one output and no side effects; a graph is its outputs.  Extents are polynomials in B.
Values keep PyTorch's logical layout; where they lie in memory is the schedule's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hearth.ir.dim import Shape
from hearth.ir.scalar import Expr


@dataclass(frozen=True, slots=True)
class Input:
    """A value from outside: state, data or a hyper-parameter."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A table known at build time, by its name in `Graph.constants`."""

    name: str


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A scalar expression for each element; inputs broadcast to the node's shape."""

    expr: Expr


@dataclass(frozen=True, slots=True)
class Reduce:
    """`sum`, `max`, `min`, `prod`, `argmax` or `argmin` over axes, which stay with extent 1.

    `max` and `min` propagate NaN.  `argmax` gives the first position (row-major over the reduced
    axes) of the largest value as int32; NaN counts as the largest.
    """

    kind: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements in row-major order under another shape."""


@dataclass(frozen=True, slots=True)
class Permute:
    """Output axis i is input axis `order[i]`."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Expand:
    """Axes of extent 1 repeated; the rank stays."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Output coordinate i reads input coordinate `start + step*i`; a negative step flips."""

    start: Shape
    step: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pad:
    """Output coordinate i reads input coordinate `i - low`, or `fill` outside of the input."""

    low: Shape
    fill: float | int | bool


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Windows over the last axes: position o, tap k reads `o*stride + k*dilation - padding`."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.kernel)


@dataclass(frozen=True, slots=True)
class Window:
    """[..., *spatial] -> [..., *positions, *kernel]: every window's taps; `fill` outside."""

    spec: WindowSpec
    fill: float | int | bool


@dataclass(frozen=True, slots=True)
class WindowTranspose:
    """[..., *positions] -> [..., *spatial, *kernel]: the window positions that saw an element.

    Element s under tap k reads position `(s + padding - k*dilation) / stride` where that is whole
    and in range, else `fill`.  Summing the taps gives the transpose of summing windows.
    """

    spec: WindowSpec
    fill: float | int | bool


@dataclass(frozen=True, slots=True)
class Recompute:
    """The same elements, for a computation that is done once more, and only when it is needed.

    What is made of it is not merged with what is made of the value itself, or in another region,
    and is not kept since the first time: less memory, for more arithmetic.
    """

    region: int


@dataclass(frozen=True, slots=True)
class Gather:
    """`torch.gather(x, axis, index)`; the index is int32, not negative and in range."""

    axis: int


@dataclass(frozen=True, slots=True)
class Triangular:
    """Which matrices of a product are square and lower triangular, each as it lies in memory.

    Above its diagonal an operand is zero, and of the result nobody needs what is there: a target
    may store zeros instead.
    """

    a: bool = False
    b: bool = False
    result: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """[*batch, M, K] · [*batch, K, N] -> [*batch, M, N]; a flag marks a transposed operand."""

    transpose_a: bool = False
    transpose_b: bool = False
    triangular: Triangular | None = None


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """Geometry of a convolution over the last `rank` axes (PyTorch's NC* / OI* layouts)."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def rank(self) -> int:
        return len(self.stride)


@dataclass(frozen=True, slots=True)
class Conv:
    """(x [N, Ci, *in], w [Co, Ci/groups, *kernel]) -> [N, Co, *out]."""

    spec: ConvSpec


@dataclass(frozen=True, slots=True)
class ConvInputGrad:
    """(g [N, Co, *out], w [Co, Ci/groups, *kernel]) -> [N, Ci, *in]: transposed convolution."""

    spec: ConvSpec


@dataclass(frozen=True, slots=True)
class ConvWeightGrad:
    """(g [N, Co, *out], x [N, Ci, *in]) -> [Co, Ci/groups, *kernel]."""

    spec: ConvSpec


@dataclass(frozen=True, slots=True)
class Pack:
    """Inputs flattened into one vector, input i from element `offsets[i]` on; zeros in between.

    `name` is the workspace (a zero-initialised state entry) that holds the vector.
    """

    name: str
    offsets: tuple[int, ...]


Op = (
    Input | Constant | Pointwise | Reduce | Reshape | Permute | Expand | Slice | Pad | Window
    | WindowTranspose | Recompute | Gather | Dot | Conv | ConvInputGrad | ConvWeightGrad | Pack
)  # fmt: skip

# Ops that only say where an element comes from.
VIEW_OPS = (Reshape, Permute, Expand, Slice, Pad, Window, WindowTranspose, Recompute)


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    op: Op
    inputs: tuple[Node, ...]
    shape: Shape
    dtype: str
    origin: str = ""  # file:line and module of the user's model


@dataclass(frozen=True, slots=True)
class Output:
    """A named result.  Role `update` gives the state entry `name` its next value."""

    name: str
    role: str
    node: Node


@dataclass(frozen=True)
class Graph:
    outputs: tuple[Output, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)  # name -> NumPy array

    @property
    def nodes(self) -> list[Node]:
        """Every node that an output needs, inputs before their users."""
        return list(topological(output.node for output in self.outputs))

    @property
    def inputs(self) -> list[Node]:
        return [node for node in self.nodes if isinstance(node.op, Input)]

    def __reduce__(self) -> Any:
        """Pickled as a table of nodes: pickle would recurse along the whole depth of the graph."""
        nodes = self.nodes
        number = {node: k for k, node in enumerate(nodes)}
        rows = [(n.op, [number[i] for i in n.inputs], n.shape, n.dtype, n.origin) for n in nodes]
        outputs = [(o.name, o.role, number[o.node]) for o in self.outputs]
        return _graph_of_table, (rows, outputs, dict(self.constants))


def _graph_of_table(
    rows: list[tuple[Op, list[int], Shape, str, str]],
    outputs: list[tuple[str, str, int]],
    constants: Mapping[str, Any],
) -> Graph:
    nodes: list[Node] = []
    for op, inputs, shape, dtype, origin in rows:
        nodes.append(Node(op, tuple(nodes[i] for i in inputs), shape, dtype, origin))
    return Graph(tuple(Output(name, role, nodes[k]) for name, role, k in outputs), constants)


def topological(roots: Iterable[Node]) -> Iterator[Node]:
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if id(node) in seen:
            continue
        if ready:
            seen.add(id(node))
            yield node
        else:
            stack.append((node, True))
            stack.extend((i, False) for i in reversed(node.inputs) if id(i) not in seen)


def users_of(graph: Graph) -> dict[Node, list[Node]]:
    """Which nodes read each node (outputs of the graph do not count)."""
    users: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node in users:
        for source in node.inputs:
            users[source].append(node)
    return users

"""The kernel: loops, scalar bodies and buffers; what code generators consume.

    for every point of `axes` (parallel):
        for each stage in order:
            Accumulate: reduce expressions over its own inner axes, into accumulators
            Store:      for every point of its own inner axes, write an expression

An expression may read buffers (`Load`), loop indices (`IndexValue`) and earlier accumulators
(`Accumulator`).  That covers pointwise maps, reductions with fused producers and consumers, and
rows such as softmax or LayerNorm.  A `template` says that the first stage is a contraction that a
target may compute its own faster way; the stages still define the meaning, so a target without
that template runs them as they are.

Loop variables are numbered: `axes` first, then the stage's own axes from `len(axes)` on.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.ir.dim import Dim, Shape, product
from hearth.ir.graph import ConvSpec, Triangular
from hearth.ir.index import Index
from hearth.ir.scalar import Expr


@dataclass(frozen=True, slots=True)
class InRange:
    """The guard 0 <= index < extent."""

    index: Index
    extent: Dim


@dataclass(frozen=True, slots=True)
class Divisible:
    """The guard index % divisor == 0 (only asked where index >= 0)."""

    index: Index
    divisor: int


Guard = InRange | Divisible


@dataclass(frozen=True, eq=False, slots=True)
class Load(Expr):
    """One element of a kernel parameter, or `fill` where a guard fails (then nothing is read)."""

    param: int
    index: Index
    guards: tuple[Guard, ...] = ()
    fill: float | int | bool = 0


@dataclass(frozen=True, eq=False, slots=True)
class IndexValue(Expr):
    """The value of an index as a number."""

    index: Index


@dataclass(frozen=True, eq=False, slots=True)
class Accumulator(Expr):
    """The result of a reduction; they are numbered through all stages of the kernel."""

    number: int


@dataclass(frozen=True, slots=True)
class Reduction:
    kind: str  # sum, max, min, prod, argmax, argmin: see graph.Reduce
    value: Expr


@dataclass(frozen=True, slots=True)
class Accumulate:
    axes: Shape
    reductions: tuple[Reduction, ...]


@dataclass(frozen=True, slots=True)
class Store:
    axes: Shape
    param: int
    index: Index
    value: Expr


Stage = Accumulate | Store


@dataclass(frozen=True, slots=True)
class DotTemplate:
    """axes = (*batch, M, N), stage 0 sums over K: operands are whole row-major buffers.

    `a` is [*batch, M, K], or [*batch, K, M] with `transpose_a`; `b` is [*batch, K, N], or
    [*batch, N, K] with `transpose_b`.  `batch` is the product of the batch extents.
    """

    a: int
    b: int
    batch: Dim
    m: Dim
    n: Dim
    k: Dim
    transpose_a: bool
    transpose_b: bool
    triangular: Triangular | None = None


@dataclass(frozen=True, slots=True)
class ConvTemplate:
    """Stage 0 is a convolution; operands are whole row-major NC* / OI* buffers.

    kind               a   b   axes                        sums over
    `forward`          x   w   (N, Co, *out)               (Ci/groups, *kernel)
    `input_grad`       g   w   (N, Ci, *in)                (Co/groups, *kernel)
    `weight_grad`      g   x   (Co, Ci/groups, *kernel)    (N, *out)
    """

    kind: str
    a: int
    b: int
    spec: ConvSpec
    batch: Dim
    in_channels: int
    out_channels: int
    in_spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]
    kernel: tuple[int, ...]


Template = DotTemplate | ConvTemplate


@dataclass(frozen=True, slots=True)
class Param:
    """A buffer that the kernel touches; it reads and writes one element only at equal indices.

    `is_half` says that all its elements are float16 numbers: a target may store them as such.
    """

    dtype: str
    size: Dim  # elements
    is_read: bool
    is_written: bool
    is_half: bool = False


@dataclass(frozen=True)
class Kernel:
    name: str
    params: tuple[Param, ...]
    axes: Shape
    stages: tuple[Stage, ...]
    template: Template | None = None
    origin: str = ""

    @property
    def points(self) -> Dim:
        """How many independent points the outer loops have."""
        return product(self.axes)

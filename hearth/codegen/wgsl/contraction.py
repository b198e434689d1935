"""What a matrix product and every convolution have in common: a sum of products of two operands.

An outer loop belongs to the rows (only the left operand varies with it), to the columns (only the
right one does) or to the batch (both do).  Seen this way a convolution is a matrix product whose
operands are read through index arithmetic: no buffer of unfolded windows, and one set of templates
for `Dot` and for the three convolutions.  The column operand is the one that varies with the last
outer loop, so that neighbouring columns are neighbours in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.layout import TYPICAL_BATCH
from hearth.codegen.wgsl.rewrite import (
    merge_axes,
    split_axis,
)
from hearth.codegen.wgsl.term import Term
from hearth.ir.dim import Dim, Shape, product, strides_of
from hearth.ir.dtype import FLOAT32
from hearth.ir.index import Axis, Index, depends_on
from hearth.ir.kernel import Accumulate, ConvTemplate, DotTemplate, Kernel, Load, Store
from hearth.ir.scalar import Apply, Expr
from hearth.ir.walking import indices_of, walk_kernel


@dataclass(frozen=True, slots=True)
class Operand:
    """One factor; `axes` are the outer loops that only it varies with."""

    value: Expr
    axes: tuple[int, ...]
    size: Dim
    is_depth_fast: bool  # memory is contiguous along the sum rather than along `axes`
    is_vector: bool  # four neighbours along `axes` are one aligned vec4
    is_depth_vector: bool  # four neighbours along the innermost loop of the sum are one
    is_flat_vector: bool  # four neighbours along all its loops as one are one


@dataclass(frozen=True)
class Contraction:
    """A kernel whose first stage sums products and whose other stages finish single results.

    With `shares` its first loop counts parts of the sum, and a point of it is only such a part.
    """

    kernel: Kernel
    batch_axes: tuple[int, ...]
    rows: Operand
    columns: Operand
    shares: int = 1

    @property
    def depth(self) -> Shape:
        return self.kernel.stages[0].axes

    @property
    def batch(self) -> Dim:
        return product(self.kernel.axes[i] for i in self.batch_axes)

    @property
    def product(self) -> DotTemplate | None:
        """The matrix product that this is, where rows and columns are those of its matrices."""
        t, sizes = self.kernel.template, (self.rows.size, self.columns.size)
        return t if isinstance(t, DotTemplate) and sizes == (t.m, t.n) else None

    @property
    def stores(self) -> tuple[Store, ...]:
        return tuple(s for s in self.kernel.stages if isinstance(s, Store))

    def vectors(self, more: Callable[[Operand], bool]) -> frozenset[int]:
        """The parameters to bind as arrays of vec4; `more`: what a template reads so, too."""
        operands = (self.rows, self.columns)
        loads = [o.value for o in operands if o.is_vector or more(o)]
        return frozenset(load.param for load in loads if isinstance(load, Load))


def contraction_of(kernel: Kernel) -> Contraction | None:
    """The kernel as a contraction, or None where it must run as loops.

    Takes a spelled kernel whose loops are not merged yet; the contraction's are.
    """
    first, *rest = kernel.stages
    if kernel.template is None or not isinstance(first, Accumulate):
        return None
    if any(not isinstance(stage, Store) or stage.axes for stage in rest):
        return None
    kernel = merge_axes(_split_groups(kernel))
    value = _summed(kernel)
    if not isinstance(value, Apply) or value.op != "mul" or value.dtype != FLOAT32:
        return None
    return sorted_axes(kernel, value.args[0], value.args[1])


def _summed(kernel: Kernel) -> Expr | None:
    stage = kernel.stages[0]
    if not isinstance(stage, Accumulate) or len(stage.reductions) != 1:
        return None
    return stage.reductions[0].value if stage.reductions[0].kind == "sum" else None


def _split_groups(kernel: Kernel) -> Kernel:
    """Give the groups of a convolution a loop of their own: they are its batch."""
    template = kernel.template
    if not isinstance(template, ConvTemplate) or template.spec.groups == 1:
        return kernel
    return split_axis(kernel, 0 if template.kind == "weight_grad" else 1, template.spec.groups)


def sorted_axes(kernel: Kernel, a: Expr, b: Expr) -> Contraction:
    """A kernel that sums a * b, with its outer loops where they belong."""
    outer = [i for i, extent in enumerate(kernel.axes) if extent != Dim.of(1)]
    in_a, in_b = ({i for i in outer if _varies(x, i)} for x in (a, b))
    if outer and outer[-1] in in_a - in_b:
        (a, in_a), (b, in_b) = (b, in_b), (a, in_a)
    rows = tuple(i for i in outer if i in in_a - in_b)
    columns = tuple(i for i in outer if i in in_b - in_a)
    batch = tuple(i for i in outer if i not in in_a ^ in_b)
    return Contraction(kernel, batch, _operand(kernel, a, rows), _operand(kernel, b, columns))


def _operand(kernel: Kernel, value: Expr, axes: tuple[int, ...]) -> Operand:
    size = product(kernel.axes[i] for i in axes)
    extents = (*kernel.axes, *kernel.stages[0].axes)
    inner = tuple(range(len(kernel.axes), len(extents)))
    vectors = [_is_vector(kernel, value, own) for own in (axes[-1:], inner[-1:], inner)]
    is_depth_fast = _run(value, inner, extents) > _run(value, axes, extents)
    return Operand(value, axes, size, is_depth_fast, *vectors)


def _run(value: Expr, axes: Sequence[int], extents: Shape) -> int:
    """How many neighbours along the last of these loops lie together in memory."""
    indices = [e.index for e in walk_kernel([value]) if isinstance(e, Load)]
    is_contiguous = any(index.coefficient(i) == Dim.of(1) for index in indices for i in axes[-1:])
    return extents[axes[-1]].at(TYPICAL_BATCH) if is_contiguous else 0


def _is_vector(kernel: Kernel, load: Expr, loops: Sequence[int]) -> bool:
    """Whether elements 4i to 4i + 3 along loops, taken as one, are one aligned vec4."""
    if not isinstance(load, Load) or load.guards or not loops:
        return False
    param, extents = kernel.params[load.param], (*kernel.axes, *kernel.stages[0].axes)
    if param.is_written or param.dtype != FLOAT32:
        return False
    own = tuple(extents[i] for i in loops)
    others = [c for atom, c in load.index.terms if not any(_is_axis(atom, i) for i in loops)]
    aligned = [*others, load.index.constant, param.size, product(own)]
    strides = zip(loops, strides_of(own), strict=True)
    is_contiguous = all(load.index.coefficient(i) == stride for i, stride in strides)
    return is_contiguous and all(d.divided_by(4) is not None for d in aligned)


def _is_axis(atom: object, position: int) -> bool:
    return isinstance(atom, Axis) and atom.position == position


def _varies(value: Expr, position: int) -> bool:
    return any(_mentions(index, position) for e in walk_kernel([value]) for index in indices_of(e))


def _mentions(index: Index, position: int) -> bool:
    return any(depends_on(atom, position) for atom, _ in index.terms)


class Places:
    """Builds coordinates from flat positions of a contraction's rows, columns and sum."""

    def __init__(self, body: Body, contraction: Contraction, batch: Term) -> None:
        self.body, self.contraction = body, contraction
        self.batch = self._flat(contraction.batch_axes, batch)

    @property
    def share(self) -> str:
        """The part of the sum that the results at this point of the batch are."""
        return self.body.coordinates([self.batch]).at(0).text

    def at(self, *, row: Term | None = None, column: Term | None = None,
           depth: Term | Sequence[Flat] | None = None) -> Coordinates:  # fmt: skip
        """`depth` is a flat position along the sum, or the positions of its loops."""
        contraction, flats = self.contraction, [self.batch]
        if row:
            flats.append(self._flat(contraction.rows.axes, row))
        if column:
            flats.append(self._flat(contraction.columns.axes, column))
        if isinstance(depth, Term):
            first = len(contraction.kernel.axes)
            positions = tuple(range(first, first + len(contraction.depth)))
            flats.append(Flat(positions, contraction.depth, depth))
        elif depth:
            flats += depth
        return self.body.coordinates(flats)

    def _flat(self, positions: tuple[int, ...], value: Term) -> Flat:
        shape = tuple(self.contraction.kernel.axes[i] for i in positions)
        return Flat(positions, shape, value)

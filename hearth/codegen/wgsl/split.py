"""Contractions whose sum is split among workgroups: few results, and a long sum for each.

The first phase computes every block of results as often as there are shares of the sum, each time
over its own share, and leaves them in scratch memory.  The second adds them up, always in the same
order, and does what the kernel does with a finished sum.  There are no atomics: a result is the
same every time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hearth.codegen.wgsl.contraction import Contraction, sorted_axes
from hearth.codegen.wgsl.loops import emit_loops
from hearth.codegen.wgsl.module import Finish, WgslKernel
from hearth.codegen.wgsl.rewrite import Renaming, merge_axes
from hearth.codegen.wgsl.shared_sum import Block, emit_shared_sum
from hearth.codegen.wgsl.tiles import Tile, emit_tiles
from hearth.ir.dim import Dim, product
from hearth.ir.dtype import ELEMENT_BYTES, FLOAT32
from hearth.ir.index import Index, axis, linearize
from hearth.ir.kernel import Accumulate, Accumulator, Kernel, Load, Param, Reduction, Store
from hearth.ir.scalar import Apply


@dataclass(frozen=True, slots=True)
class Split:
    """How a share is computed, and into how many the sum is split."""

    template: Tile | Block
    shares: int

    @property
    def all_rows(self) -> int:
        return self.template.all_rows

    @property
    def all_columns(self) -> int:
        return self.template.all_columns


def emit_split(contraction: Contraction, split: Split) -> WgslKernel:
    """The module that sums shares, and the one that finishes."""
    size = product(contraction.kernel.axes) * split.shares
    shared = _with_shares(contraction, split.shares, size)
    match split.template:
        case Tile() as tile:
            first = emit_tiles(shared, tile)
        case Block() as block:
            first = emit_shared_sum(shared, block)
    last = emit_loops(merge_axes(_finishing(contraction, split.shares, size)))
    finish = Finish(last.source, last.workgroups, size * ELEMENT_BYTES)
    return replace(first, finish=finish)


def _with_shares(contraction: Contraction, shares: int, size: Dim) -> Contraction:
    """The contraction with one more loop, of shares, and their results in scratch memory."""
    kernel = contraction.kernel
    extents = (*kernel.axes, *contraction.depth)
    moved = Renaming({i: axis(i + 1, extent) for i, extent in enumerate(extents)})
    total = moved.stage(kernel.stages[0])
    assert isinstance(total, Accumulate)
    value = total.reductions[0].value
    assert isinstance(value, Apply)
    place = moved.index(_place(contraction)) + axis(0, shares) * product(kernel.axes)
    store = Store((), len(kernel.params), place, Accumulator(FLOAT32, 0))
    scratch = Param(FLOAT32, size, is_read=False, is_written=True)
    own = replace(
        kernel, params=(*kernel.params, scratch), axes=(Dim.of(shares), *kernel.axes),
        stages=(total, store),
    )  # fmt: skip
    return replace(sorted_axes(own, *value.args), shares=shares)


def _finishing(contraction: Contraction, shares: int, size: Dim) -> Kernel:
    """The kernel with the sum of products replaced by the sum of its shares."""
    kernel = contraction.kernel
    share = axis(len(kernel.axes), shares)
    place = _place(contraction) + share * product(kernel.axes)
    value = Load(FLOAT32, len(kernel.params), place)
    total = Accumulate((Dim.of(shares),), (Reduction("sum", value),))
    scratch = Param(FLOAT32, size, is_read=True, is_written=False)
    return replace(
        kernel, params=(*kernel.params, scratch), stages=(total, *contraction.stores),
        template=None,
    )  # fmt: skip


def _place(contraction: Contraction) -> Index:
    """Where a result lies within its share: as the template computes them, columns fastest."""
    axes, rows, columns = contraction.kernel.axes, contraction.rows, contraction.columns
    order = (*contraction.batch_axes, *rows.axes, *columns.axes)
    return linearize([axis(i, axes[i]) for i in order], tuple(axes[i] for i in order))

"""What a template does with its result: the kernel's Store stages, a block of it at a time.

The contraction writes raw sums of a block to scratch memory, where they are still in the cache when
these loops read them.  (Fusing the stores into the tiles themselves was measured to be slower: the
constants of an optimizer update push the tile out of its registers.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hearth.codegen.wasm.assembler import Function, Operand
from hearth.codegen.wasm.canonical import Canonical, axis_index
from hearth.codegen.wasm.loops import LoopEmitter, LoopPlan
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.normalize import canonical_kernel, replace_accumulator
from hearth.codegen.wasm.opcodes import I32
from hearth.ir.dim import Dim
from hearth.ir.dtype import FLOAT32
from hearth.ir.index import Axis, Index, axis, delinearize, linearize
from hearth.ir.kernel import Accumulate, Accumulator, Kernel, Load, Param, Store


def has_epilogue_only(kernel: Kernel) -> bool:
    """Whether the kernel is one contraction followed by stores of single points."""
    first, *rest = kernel.stages
    is_sum = isinstance(first, Accumulate) and [r.kind for r in first.reductions] == ["sum"]
    return is_sum and all(isinstance(s, Store) and not s.axes for s in rest)


def plain_output(kernel: Kernel) -> int | None:
    """The parameter that takes the sums as they are, in row-major order, if that is all."""
    stages = kernel.stages[1:]
    if len(stages) != 1 or not isinstance(stages[0], Store):
        return None
    store = stages[0]
    is_plain = isinstance(store.value, Accumulator) and store.index == _row_major(kernel)
    return store.param if is_plain else None


def _row_major(kernel: Kernel) -> Index:
    coords = [axis_of(kernel, i) for i in range(len(kernel.axes))]
    return linearize(coords, kernel.axes)


def axis_of(kernel: Kernel, position: int) -> Index:
    extent = kernel.axes[position]
    if extent == Dim.of(1):
        return Index()
    return Index(((Axis(position, extent), Dim.of(1)),))


def flatten_leading(kernel: Kernel, count: int, extent: Dim) -> Kernel:
    """The kernel with its first `count` axes as one, axis 0, of the given extent."""
    leading = delinearize(axis(0, extent), kernel.axes[:count])

    def rule(old: Axis) -> Index | None:
        if old.position < count:
            return leading[old.position]
        return axis_index(old.position - count + 1, old.extent)

    return canonical_kernel(kernel, Canonical(), rule, (extent, *kernel.axes[count:]))


@dataclass(frozen=True)
class Epilogue:
    """`function(batch, start and end per blocked axis…, pointers…, sums)` stores a block."""

    function: Function

    @staticmethod
    def of(maths: Maths, kernel: Kernel, sums: Index, size: Dim, blocked: Sequence[int],
           aligned: Sequence[int] = ()) -> Epilogue:  # fmt: skip
        """The stages after the first.

        `sums` is where each point's sum lies, in elements from the last parameter on; the ranges of
        `blocked` axes are parameters, those of `aligned` ones begin and end at multiples of 4.
        """
        count = len(blocked)
        extra = Param(FLOAT32, size, is_read=True, is_written=False)
        load = Load(FLOAT32, len(kernel.params), sums)
        stored = replace_accumulator(kernel, 0, load)
        stored = replace(stored, params=(*kernel.params, extra))
        plan = LoopPlan.of(stored, frozenset(blocked))
        f = Function(f"{kernel.name}_epilogue", (I32,) * (1 + 2 * count + len(stored.params)))
        ranges = {a: (f.param(1 + 2 * i), f.param(2 + 2 * i)) for i, a in enumerate(blocked)}
        pointers = [f.param(1 + 2 * count + i) for i in range(len(stored.params))]
        LoopEmitter(f, maths, plan, pointers, ranges, frozenset(aligned)).emit()
        return Epilogue(maths.module.add(f))

    def call(self, f: Function, batch: Operand, ranges: Sequence[tuple[Operand, Operand]],
             pointers: Sequence[Operand], sums: Operand) -> None:  # fmt: skip
        """Stores the points within the ranges."""
        flat = [bound for pair in ranges for bound in pair]
        f.perform(f.call(self.function, batch, *flat, *pointers, sums))

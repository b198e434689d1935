"""Scalar expressions of a kernel, on one value or on four lanes.

Along the vector axis (if any) four consecutive points are computed at once.  An expression that
does not vary along it stays a scalar and is spread over the lanes where it meets one that does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hearth.codegen.wasm.assembler import Operand, op
from hearth.codegen.wasm.canonical import ACCUMULATOR
from hearth.codegen.wasm.constants import scalar_constant, spread, vector_constant
from hearth.codegen.wasm.elements import Elements
from hearth.codegen.wasm.opcodes import V128
from hearth.codegen.wasm.random import Stream, aligned_index
from hearth.ir.dim import Dim
from hearth.ir.expr import Apply, BatchValue, Const, Expr, walk
from hearth.ir.index import Index
from hearth.ir.kernel import Accumulator, IndexValue, Load
from hearth.ir.scalar import SCALAR_OPS


@dataclass(eq=False)
class Expressions(Elements):
    """Emits expressions into one function.

    `point_depth` is the level that accumulators belong to; it changes as loops open and close.
    """

    point_depth: int = 0
    stage: int = 0
    accumulators: dict[int, Operand] = field(default_factory=dict)
    _written: dict[int, bool] = field(default_factory=dict)
    _streams: dict[int, Stream] = field(default_factory=dict)

    def is_vector(self, expr: Expr) -> bool:
        axes = self.canonical.axes_of(expr)
        if self.vector_axis in axes:
            return True
        return ACCUMULATOR in axes and any(a.type == V128 for a in self.accumulators.values())

    def evaluate(self, expr: Expr) -> Operand:
        """As `value`, for a root: operands first, so that deep expressions do not recurse."""
        for sub in walk([expr]):
            self.value(sub)
        return self.value(expr)

    def value(self, expr: Expr) -> Operand:
        """A scalar, or four lanes where the expression varies along the vector axis."""
        if isinstance(expr, Const):
            return scalar_constant(expr)
        if isinstance(expr, Accumulator):
            return self.accumulators[expr.number]
        depth = self._depth_of(expr)
        key = (id(expr), self.stage if self._reads_written(expr) else 0)
        return self.levels.keep(depth, key, lambda: self._compute(expr))

    def lanes(self, expr: Expr) -> Operand:
        """Four lanes, whatever the expression."""
        if isinstance(expr, Const):
            return vector_constant(expr)
        value = self.value(expr)
        if value.type == V128:
            return value
        key = ("lanes", id(expr), self.stage if self._reads_written(expr) else 0)
        depth = self._depth_of(expr)
        return self.levels.keep(depth, key, lambda: spread(value, expr.dtype))

    def _depth_of(self, expr: Expr) -> int:
        axes = self.canonical.axes_of(expr)
        depth = self.levels.depth_of(axes)
        if ACCUMULATOR in axes or self._reads_written(expr):
            return max(depth, self.point_depth)
        return depth

    def _reads_written(self, expr: Expr) -> bool:
        """Whether an earlier stage may have changed what the expression reads."""
        known = self._written.get(id(expr))
        if known is None:
            match expr:
                case Load():
                    known = self.params[expr.param].is_written
                case Apply():
                    known = any(self._reads_written(a) for a in expr.args)
                case _:
                    known = False
            self._written[id(expr)] = known
        return known

    def _compute(self, expr: Expr) -> Operand:
        match expr:
            case Apply(op="random"):
                return self._random(expr)
            case Apply():
                get = self.lanes if self.is_vector(expr) else self.value
                operands = [get(a) for a in expr.args]
                return self.speller.apply(expr.op, expr.args[-1].dtype, operands)
            case Load():
                return self.load(expr)
            case IndexValue():
                if not self.is_vector(expr):
                    return self.levels.number(expr.index)
                return self.index_lanes(expr.index)
            case BatchValue():
                return self._batch_value(expr)
        raise AssertionError(type(expr).__name__)

    def _random(self, expr: Apply) -> Operand:
        axis = self.vector_axis
        if axis is not None and self.is_vector(expr) and self.is_aligned:
            index = aligned_index(self.canonical, expr.args[4], axis)
            if index is not None and not any(self.is_vector(a) for a in expr.args[:4]):
                return self._random_block(expr, index)
        expansion = SCALAR_OPS["random"].expansion
        assert expansion is not None
        return self.evaluate(self.canonical.expr(expansion(*expr.args)))

    def _random_block(self, expr: Apply, index: Index) -> Operand:
        key0, key1, step, stream = (self.value(a) for a in expr.args[:4])
        if id(expr) not in self._streams:
            with self.levels.at(0):
                self._streams[id(expr)] = Stream.of(self.function)
        block = op("i32.shr_u", self.levels.number(index), 2)
        return self._streams[id(expr)].take((key0, key1), step, stream, block)

    def _batch_value(self, expr: BatchValue) -> Operand:
        numbers = (
            op("f64.convert_i32_s", self.levels.dim(Dim.of(d)))
            for d in (expr.numerator, expr.denominator)
        )
        return op("f32.demote_f64", op("f64.div", *numbers))

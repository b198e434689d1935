"""Scalar expressions of a kernel, on one value or on four lanes.

Along the vector axis (if any) four consecutive points are computed at once.  An expression that
does not vary along it stays a scalar and is spread over the lanes where it meets one that does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hearth.codegen.wasm.assembler import Operand, i32, op
from hearth.codegen.wasm.canonical import ACCUMULATOR
from hearth.codegen.wasm.constants import (
    as_float32,
    scalar_constant,
    spread,
    vector_constant,
)
from hearth.codegen.wasm.elements import Elements
from hearth.codegen.wasm.opcodes import V128
from hearth.codegen.wasm.random import Stream, aligned_index
from hearth.codegen.wasm.rows import KeptRows
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES, FLOAT32
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
    stored: dict[int, int] = field(default_factory=dict)  # the last stage that wrote a parameter
    accumulators: dict[int, Operand] = field(default_factory=dict)
    kept: KeptRows = field(default_factory=KeptRows)
    scratch: Operand = field(default_factory=lambda: i32(0))  # where kept rows lie
    row: Index = field(default_factory=Index)  # the point of the stage's own loops
    _written: dict[int, frozenset[int]] = field(default_factory=dict)
    _streams: dict[int, Stream] = field(default_factory=dict)

    def is_vector(self, expr: Expr) -> bool:
        axes = self.canonical.axes_of(expr)
        if self.vector_axis in axes:
            return True
        return ACCUMULATOR in axes and any(a.type == V128 for a in self.accumulators.values())

    def evaluate(self, expr: Expr) -> Operand:
        """As `value`, for a root: operands first, so that deep expressions do not recurse."""
        for sub in self._needed(expr):
            self.value(sub)
        return self.value(expr)

    def _needed(self, root: Expr) -> list[Expr]:
        """Sub-expressions, operands first, without those of what an earlier stage has kept."""
        kept = [e for e in walk([root]) if self._is_kept_already(e)]
        if not kept:
            return list(walk([root]))
        found: dict[int, Expr] = {}
        stack = [root]
        while stack:
            expr = stack.pop()
            if id(expr) not in found:
                found[id(expr)] = expr
                if isinstance(expr, Apply) and not self._is_kept_already(expr):
                    stack.extend(expr.args)
        return [e for e in walk([root]) if id(e) in found]

    def _is_kept_already(self, expr: Expr) -> bool:
        return self.kept.written_by.get(id(expr), self.stage) != self.stage

    def value(self, expr: Expr) -> Operand:
        """A scalar, or four lanes where the expression varies along the vector axis."""
        if isinstance(expr, Const):
            return scalar_constant(expr)
        if isinstance(expr, Accumulator):
            return self.accumulators[expr.number]
        depth = self._depth_of(expr)
        key = (id(expr), self._version(expr))
        if id(expr) not in self.kept.offsets:
            return self.levels.keep(depth, key, lambda: self._compute(expr))
        if self._is_kept_already(expr):
            return self.levels.keep(depth, (*key, self.stage), lambda: self._kept_value(expr))
        return self.levels.keep(depth, key, lambda: self._keep(expr))

    def _keep(self, expr: Expr) -> Operand:
        """Computes a value, and writes it for the stages that follow."""
        self.kept.written_by[id(expr)] = self.stage
        value = self.function.local(self._compute(expr))
        name = "v128.store" if value.type == V128 else "f32.store"
        self.function.store(name, self._kept_address(expr), value)
        return value

    def _kept_value(self, expr: Expr) -> Operand:
        name = "v128.load" if self.is_vector(expr) else "f32.load"
        return op(name, self._kept_address(expr))

    def _kept_address(self, expr: Expr) -> Operand:
        offset = self.kept.offsets[id(expr)]
        return self.levels.affine(("kept", offset), self.scratch + offset, self.row, ELEMENT_BYTES)

    def lanes(self, expr: Expr) -> Operand:
        """Four lanes, whatever the expression."""
        if isinstance(expr, Const):
            return self._constant_lanes(expr)
        value = self.value(expr)
        if value.type == V128:
            return value
        key = ("lanes", id(expr), self._version(expr))
        depth = self._depth_of(expr)
        return self.levels.keep(depth, key, lambda: spread(value, expr.dtype))

    def _depth_of(self, expr: Expr) -> int:
        axes = self.canonical.axes_of(expr)
        depth = self.levels.depth_of(axes)
        if ACCUMULATOR in axes or self._read_and_written(expr):
            return max(depth, self.point_depth)
        return depth

    def _constant_lanes(self, const: Const) -> Operand:
        """In a loop from memory: V8 needs three instructions for a literal, but one for zeros."""
        if const.dtype != FLOAT32 or const.value == 0 or len(self.levels.path) == 1:
            return vector_constant(const)
        return self.maths.constant(as_float32(const.value))

    def _version(self, expr: Expr) -> int:
        """The last stage that may have changed what the expression reads; -1 if none has."""
        read = self._read_and_written(expr)
        return max((self.stored.get(param, -1) for param in read), default=-1)

    def _read_and_written(self, expr: Expr) -> frozenset[int]:
        """The parameters that the expression reads and some stage writes."""
        known = self._written.get(id(expr))
        if known is None:
            match expr:
                case Load():
                    is_written = self.params[expr.param].is_written
                    known = frozenset((expr.param,) if is_written else ())
                case Apply():
                    known = frozenset().union(*map(self._read_and_written, expr.args))
                case _:
                    known = frozenset()
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

"""Scalar expressions of a kernel, on one value or on four lanes.

Along the vector axis (if any) four consecutive points are computed at once.  An expression that
does not vary along it stays a scalar and is spread over the lanes where it meets one that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hearth.codegen.wasm.assembler import (
    Function,
    Operand,
    f32,
    f32x4,
    i32,
    i32x4,
    op,
    select,
    shuffle,
)
from hearth.codegen.wasm.canonical import ACCUMULATOR, Canonical, axis_index, gathered_values
from hearth.codegen.wasm.levels import Levels, split_constant
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.opcodes import F32, V128
from hearth.codegen.wasm.random import Stream, aligned_index
from hearth.codegen.wasm.spelling import LOADS, Speller
from hearth.ir.dim import Dim
from hearth.ir.dtype import BOOL, ELEMENT_BYTES, FLOAT32
from hearth.ir.expr import Apply, BatchValue, Const, Expr, walk
from hearth.ir.index import Atom, Axis, Index, Value, atom_index, substitute
from hearth.ir.kernel import Accumulator, Divisible, Guard, IndexValue, InRange, Load, Param
from hearth.ir.scalar import SCALAR_OPS

LANES = 4


@dataclass(eq=False)
class Expressions:
    """Emits expressions into one function.

    `pointers` are the addresses of the kernel's parameters.  `vector_axis` and `point_depth` (the
    level that accumulators belong to) change as loops open and close.
    """

    function: Function
    maths: Maths
    canonical: Canonical
    params: Sequence[Param]
    pointers: Sequence[Operand]
    vector_axis: int | None = None
    is_aligned: bool = False  # the vector axis is at multiples of four
    point_depth: int = 0
    stage: int = 0
    accumulators: dict[int, Operand] = field(default_factory=dict)
    _written: dict[int, bool] = field(default_factory=dict)
    _streams: dict[int, Stream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.levels = Levels(self.function, self.canonical, self._gathered)
        self.speller = Speller(self.function, self.maths)

    # ------------------------------------------------------------ values

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
                return self._load(expr)
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

    # ------------------------------------------------------------ indices

    def lane_index(self, index: Index, lane: int) -> Index:
        """The index at the vector axis plus `lane`; gathered values have their lanes already."""

        def rule(atom: Atom) -> Index | None:
            if isinstance(atom, Value):
                return atom_index(atom)
            if isinstance(atom, Axis) and atom.position == self.vector_axis:
                return axis_index(atom.position, atom.extent) + lane
            return None

        return substitute(index, rule)

    def index_lanes(self, index: Index) -> Operand:
        """The values of an index in four lanes."""
        assert self.vector_axis is not None
        stride = self.canonical.stride(index, self.vector_axis)
        if stride is not None and stride.is_static:
            steps = i32x4(*(stride.static * lane for lane in range(LANES)))
            first = op("i32x4.splat", self.levels.number(index))
            return first if stride == Dim() else op("i32x4.add", first, steps)
        result = self.function.local(V128)
        for lane in range(LANES):
            value = self.levels.number(self.lane_index(index, lane), lane)
            update = op("i32x4.replace_lane", result, value, immediate=lane)
            self.function.set(result, update if lane else op("i32x4.splat", value))
        return result

    def _gathered(self, atom: Value, lane: int | None) -> Operand:
        value = self.value(atom.expr)
        if value.type != V128:
            return value
        assert lane is not None, "a gathered index varies along the vector axis"
        return op("i32x4.extract_lane", value, immediate=lane)

    def address(self, param: int, index: Index, lane: int | None = None, *,
                is_guarded: bool = False) -> tuple[Operand, int]:  # fmt: skip
        """Address and constant offset of an element."""
        rest, constant = split_constant(index)
        can_fold = constant >= 0 and all(
            isinstance(a, Axis) and c.is_at_least(0) for a, c in rest.terms
        )
        if is_guarded:
            # The fallback address plus the offset must lie in the buffer, too.
            can_fold = constant >= 0 and self.params[param].size.is_at_least(constant + LANES)
        if not can_fold:
            rest, constant = index, 0
        pointer = self.pointers[param]
        address = self.levels.affine(param, pointer, rest, ELEMENT_BYTES, lane)
        return address, constant * ELEMENT_BYTES

    # ------------------------------------------------------------ guards

    def _guard(self, guard: Guard) -> Operand:
        """A scalar condition, or a mask where the guard varies along the vector axis."""
        if self.vector_axis not in self.canonical.axes_of_index(guard.index):
            return self._scalar_guard(guard, guard.index, None)
        if isinstance(guard, InRange):
            extent = op("i32x4.splat", self.levels.dim(guard.extent))
            return op("i32x4.lt_u", self.index_lanes(guard.index), extent)
        return self._divisible_lanes(guard)

    def _scalar_guard(self, guard: Guard, index: Index, lane: int | None) -> Operand:
        number = self.levels.number(index, lane)
        if isinstance(guard, InRange):
            # Unsigned, a negative index is larger than any extent.
            return op("i32.lt_u", number, self.levels.dim(guard.extent))
        return op("i32.eqz", op("i32.rem_u", number, guard.divisor))

    def _divisible_lanes(self, guard: Divisible) -> Operand:
        numbers = self.index_lanes(guard.index)
        if guard.divisor & (guard.divisor - 1) == 0:
            rest = op("v128.and", numbers, i32x4(guard.divisor - 1))
            return op("i32x4.eq", rest, i32x4(0))
        rest = self.speller.lane_by_lane(lambda x: op("i32.rem_u", x, guard.divisor), [numbers])
        return op("i32x4.eq", rest, i32x4(0))

    def _conditions(self, guards: Sequence[Guard]) -> tuple[Operand | None, Operand | None]:
        """The scalar condition and the mask that together admit an element."""
        scalar: Operand | None = None
        mask: Operand | None = None
        for guard in guards:
            condition = self._guard(guard)
            if condition.type == V128:
                mask = condition if mask is None else op("v128.and", mask, condition)
            else:
                scalar = condition if scalar is None else op("i32.and", scalar, condition)
        local = self.function.local
        return scalar and local(scalar), mask and local(mask)

    # ------------------------------------------------------------ loads

    def _load(self, load: Load) -> Operand:
        raw = self._load_lanes(load) if self.is_vector(load) else self._load_scalar(load)
        if load.dtype == BOOL and raw.type == V128:
            return op("i32x4.ne", raw, i32x4(0))
        return raw

    def _load_scalar(self, load: Load) -> Operand:
        name = LOADS[load.dtype][0]
        address, offset = self.address(load.param, load.index, is_guarded=bool(load.guards))
        if not load.guards:
            return op(name, address, immediate=offset)
        condition, _ = self._conditions(load.guards)
        assert condition is not None
        safe = select(condition, address, self.pointers[load.param])
        element = op(name, safe, immediate=offset)
        return select(condition, element, scalar_constant(Const(load.dtype, load.fill)))

    def _load_lanes(self, load: Load) -> Operand:
        assert self.vector_axis is not None
        stride = self.canonical.stride(load.index, self.vector_axis)
        condition, mask = self._conditions(load.guards)
        if condition is None and mask is None:
            return self._load_free(load, stride)
        if stride == Dim.of(1) and mask is None:
            assert condition is not None
            address, offset = self.address(load.param, load.index, is_guarded=True)
            safe = select(condition, address, self.pointers[load.param])
            fill = raw_fill(load)
            return select(condition, op("v128.load", safe, immediate=offset), fill)
        return self._load_masked(load, stride, self._whole_mask(condition, mask))

    def _whole_mask(self, condition: Operand | None, mask: Operand | None) -> Operand:
        if condition is None:
            assert mask is not None
            return mask
        spread_condition = op("i32x4.splat", op("i32.sub", i32(0), condition))
        if mask is None:
            return self.function.local(spread_condition)
        return self.function.local(op("v128.and", mask, spread_condition))

    def _load_free(self, load: Load, stride: Dim | None) -> Operand:
        if stride == Dim.of(1):
            address, offset = self.address(load.param, load.index)
            return op("v128.load", address, immediate=offset)
        if stride == Dim.of(2):
            # Elements 0, 2 and 4, 6 of two loads that end where the last lane ends.
            address, offset = self.address(load.param, load.index)
            first, last = (op("v128.load", address, immediate=offset + skip) for skip in (0, 12))
            return shuffle(first, last, 0, 2, 5, 7)
        if stride is None and self._is_same_in_all_lanes(load.index):
            address, offset = self.address(load.param, self.lane_index(load.index, 0), 0)
            return op("v128.load32_splat", address, immediate=offset)
        result = self.function.local(V128)
        for lane in range(LANES):
            address, offset = self._lane_address(load.param, load.index, stride, lane)
            if lane == 0:
                element = op("v128.load32_splat", address, immediate=offset)
            else:
                element = op("v128.load32_lane", address, result, immediate=(offset, lane))
            self.function.set(result, element)
        return result

    def _is_same_in_all_lanes(self, index: Index) -> bool:
        is_gathered = any(self.canonical.axes_of(v.expr) for v in gathered_values(index))
        return not is_gathered and len({self.lane_index(index, i) for i in range(LANES)}) == 1

    def _lane_address(self, param: int, index: Index, stride: Dim | None,
                      lane: int) -> tuple[Operand, int]:  # fmt: skip
        if stride is not None and stride.is_static and stride.static >= 0:
            address, offset = self.address(param, index)
            return address, offset + stride.static * lane * ELEMENT_BYTES
        return self.address(param, self.lane_index(index, lane), lane)

    def _load_masked(self, load: Load, stride: Dim | None, mask: Operand) -> Operand:
        """Lanes outside of the guards keep the fill; their memory is not touched."""
        f = self.function
        base = self.pointers[load.param]
        addresses = [self._guarded_lane_address(load, stride, lane) for lane in range(LANES)]
        result = f.local(raw_fill(load))

        def one_by_one() -> None:
            for lane, address in enumerate(addresses):
                admitted = op("i32x4.extract_lane", mask, immediate=lane)
                safe = select(admitted, address, base)
                f.set(result, op("v128.load32_lane", safe, result, immediate=(0, lane)))
            f.set(result, op("v128.bitselect", result, raw_fill(load), mask))

        if stride != Dim.of(1):
            one_by_one()
            return result
        with f.if_(op("i32x4.all_true", mask)):
            f.set(result, op("v128.load", addresses[0]))
            f.else_()
            with f.if_(op("v128.any_true", mask)):
                one_by_one()
        return result

    def _guarded_lane_address(self, load: Load, stride: Dim | None, lane: int) -> Operand:
        if stride is not None and stride.is_static:
            address, _ = self.address(load.param, load.index, is_guarded=True)
            offset = self.address(load.param, load.index, is_guarded=True)[1]
            return address + (offset + stride.static * lane * ELEMENT_BYTES)
        address, offset = self.address(
            load.param, self.lane_index(load.index, lane), lane, is_guarded=True
        )
        return self.function.local(address + offset)

    # ------------------------------------------------------------ stores

    def store(self, param: int, index: Index, value: Operand, dtype: str) -> None:
        """Writes a scalar, or four lanes along the vector axis."""
        f = self.function
        if value.type != V128:
            address, offset = self.address(param, index)
            f.store("f32.store" if value.type == F32 else "i32.store", address, value, offset)
            return
        assert self.vector_axis is not None
        if dtype == BOOL:
            value = f.local(op("v128.and", value, i32x4(1)))
        stride = self.canonical.stride(index, self.vector_axis)
        if stride == Dim.of(1):
            address, offset = self.address(param, index)
            f.store("v128.store", address, value, offset)
            return
        for lane in range(LANES):
            address, offset = self._lane_address(param, index, stride, lane)
            f.store("v128.store32_lane", address, value, (offset, lane))


def quarter_of(position: int) -> int:
    """The number that stands for a vector axis divided by 4."""
    return -2 - position


def scalar_constant(const: Const) -> Operand:
    if const.dtype == FLOAT32:
        return f32(_float32(const.value))
    return i32(int(const.value))


def vector_constant(const: Const) -> Operand:
    if const.dtype == FLOAT32:
        return f32x4(_float32(const.value))
    return i32x4(-int(const.value) if const.dtype == BOOL else int(const.value))


def raw_fill(load: Load) -> Operand:
    """The fill as it would lie in memory (a bool is 0 or 1 there)."""
    if load.dtype == BOOL:
        return i32x4(int(load.fill))
    return vector_constant(Const(load.dtype, load.fill))


def spread(value: Operand, dtype: str) -> Operand:
    """A scalar in all lanes."""
    if dtype == FLOAT32:
        return op("f32x4.splat", value)
    if dtype == BOOL:
        return op("i32x4.splat", op("i32.sub", i32(0), value))
    return op("i32x4.splat", value)


def _float32(value: float) -> float:
    """Rounded to float32: struct refuses values that overflow."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))

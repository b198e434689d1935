"""Where the elements of a kernel's buffers lie, and reading and writing them.

On four lanes, an access of stride 1 is one instruction, others go lane by lane.  An element behind
a failing guard is never touched: its address is replaced by the start of the buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import (
    Function,
    Operand,
    i32,
    i32x4,
    op,
    select,
    shuffle,
)
from hearth.codegen.wasm.canonical import Canonical, axis_index
from hearth.codegen.wasm.constants import raw_fill, scalar_constant
from hearth.codegen.wasm.levels import Levels, split_constant
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.opcodes import F32, V128
from hearth.codegen.wasm.spelling import LOADS, Speller
from hearth.ir.dim import Dim
from hearth.ir.dtype import BOOL, ELEMENT_BYTES
from hearth.ir.expr import Const, Expr
from hearth.ir.index import Atom, Axis, Index, Value, atom_index, substitute
from hearth.ir.kernel import Divisible, Guard, InRange, Load, Param
from hearth.ir.walking import values_in

LANES = 4


@dataclass(eq=False)
class Elements:
    """Access to the buffers of one kernel, in one function; `Expressions` computes the values.

    `pointers` are the addresses of the kernel's parameters.  `vector_axis` changes as loops open
    and close.
    """

    function: Function
    maths: Maths
    canonical: Canonical
    params: Sequence[Param]
    pointers: Sequence[Operand]
    vector_axis: int | None = None
    is_aligned: bool = False  # the vector axis is at multiples of four

    def __post_init__(self) -> None:
        self.levels = Levels(self.function, self.canonical, self._gathered)
        self.speller = Speller(self.function, self.maths)

    def value(self, expr: Expr) -> Operand:
        """A scalar, or four lanes where the expression varies along the vector axis."""
        raise NotImplementedError

    def is_vector(self, expr: Expr) -> bool:
        raise NotImplementedError

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

    def load(self, load: Load) -> Operand:
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
        is_gathered = any(self.canonical.axes_of(v.expr) for v in values_in(index))
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

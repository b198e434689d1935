"""Functions of a WebAssembly module, written as typed expressions.

An `Operand` is code that leaves one value on the stack; `op` applies an instruction to operands
and checks types; a `Function` collects code, owns locals and opens blocks and loops.  Nothing here
knows of kernels.  Instructions stay symbolic until `module.py` encodes them, so the text form is
free.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hearth.codegen.wasm.opcodes import F32, F64, I32, I64, OPCODES, V128

Instruction = tuple[Any, ...]  # (name, *immediates); the control instructions are in module.py
Code = list[Any]  # instructions and nested code lists (filled in later)


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """A typed expression; `+`, `-`, `*` are i32 arithmetic with constants folded."""

    type: str
    code: tuple[Instruction, ...]

    @property
    def constant(self) -> int | None:
        """The value of an i32 constant."""
        is_constant = len(self.code) == 1 and self.code[0][0] == "i32.const"
        return int(self.code[0][1]) if is_constant else None

    def __add__(self, other: Operand | int) -> Operand:
        other = as_i32(other)
        a, b = self.constant, other.constant
        if a is not None and b is not None:
            return i32(a + b)
        if a == 0:
            return other
        return self if b == 0 else op("i32.add", self, other)

    def __sub__(self, other: Operand | int) -> Operand:
        other = as_i32(other)
        if other.constant is not None:
            return self + -other.constant
        return op("i32.sub", self, other)

    def __mul__(self, other: Operand | int) -> Operand:
        other = as_i32(other)
        a, b = self.constant, other.constant
        if a is not None and b is not None:
            return i32(a * b)
        if a is not None:
            return other * self
        if b is None:
            return op("i32.mul", self, other)
        if b in (0, 1):
            return self if b else i32(0)
        power = b.bit_length() - 1
        return op("i32.shl", self, power) if b == 1 << power else op("i32.mul", self, other)


@dataclass(frozen=True, eq=False, slots=True)
class Local(Operand):
    index: int


def i32(value: int) -> Operand:
    """An i32 constant, wrapped to 32 bits."""
    return Operand(I32, (("i32.const", (value + 2**31) % 2**32 - 2**31),))


def f32(value: float) -> Operand:
    return Operand(F32, (("f32.const", value),))


def f64(value: float) -> Operand:
    return Operand(F64, (("f64.const", value),))


def i64(value: int) -> Operand:
    return Operand(I64, (("i64.const", value),))


def f32x4(value: float) -> Operand:
    """A float in all four lanes."""
    return Operand(V128, (("v128.const", struct.pack("<f", value) * 4),))


def i32x4(*values: int) -> Operand:
    """One integer in all four lanes, or four."""
    lanes = values * 4 if len(values) == 1 else values
    return Operand(V128, (("v128.const", struct.pack("<4I", *(v % 2**32 for v in lanes))),))


def as_i32(value: Operand | int) -> Operand:
    return value if isinstance(value, Operand) else i32(value)


def op(name: str, *operands: Operand | int, immediate: Any = None) -> Operand:
    """An instruction with a result; a Python int is an i32 constant.

    `immediate` is the address offset of a load, a lane, (offset, lane), or sixteen byte lanes.
    """
    row = OPCODES[name]
    assert row.result is not None, name
    return Operand(row.result, instruction_code(name, operands, immediate))


def instruction_code(
    name: str, operands: Sequence[Operand | int], immediate: Any
) -> tuple[Instruction, ...]:
    row = OPCODES[name]
    values = [as_i32(o) for o in operands]
    types = tuple(v.type for v in values)
    assert types == row.operands, f"{name} takes {row.operands}, got {types}"
    assert (immediate is None) <= (row.immediate in ("", "memory")), f"{name} lacks its immediate"
    own: Instruction = (name,)
    if row.immediate:
        own = (name, 0 if immediate is None else immediate)
    return (*(i for v in values for i in v.code), own)


def select(condition: Operand, if_true: Operand, if_false: Operand) -> Operand:
    assert condition.type == I32
    assert if_true.type == if_false.type
    code = (*if_true.code, *if_false.code, *condition.code, ("select",))
    return Operand(if_true.type, code)


def shuffle(a: Operand, b: Operand, *lanes: int) -> Operand:
    """Four 32-bit lanes out of the eight of a and b."""
    return op("i8x16.shuffle", a, b, immediate=bytes(4 * x + k for x in lanes for k in range(4)))


class Function:
    """A function under construction.

    Locals taken inside a `scope` are free for reuse when it ends.  `into` redirects code to another
    list: that is how a value is computed in front of a loop whose body is being written.  A local
    made there must be `fresh`: one that the body used before would be overwritten by it.
    """

    def __init__(self, name: str, params: Sequence[str] = (), result: str | None = None) -> None:
        self.name, self.param_types, self.result_type = name, tuple(params), result
        self.local_types: list[str] = []
        self.code: Code = []
        self.is_exported = False
        self._sink = self.code
        self._free: dict[str, list[int]] = {}
        self.scopes: list[list[Local]] = [[]]

    def param(self, index: int) -> Local:
        return self._local(index, self.param_types[index])

    def local(self, value: Operand | str, *, fresh: bool = False,
              scope: list[Local] | None = None) -> Local:  # fmt: skip
        """A new local with a value, or of a type (then its content is not defined).

        It is free again when `scope` ends, by default the innermost one.
        """
        type_ = value if isinstance(value, str) else value.type
        free = self._free.get(type_)
        if free and not fresh:
            local = self._local(free.pop(), type_)
        else:
            self.local_types.append(type_)
            local = self._local(len(self.param_types) + len(self.local_types) - 1, type_)
        (self.scopes[-1] if scope is None else scope).append(local)
        if isinstance(value, Operand):
            self.set(local, value)
        return local

    def set(self, local: Local, value: Operand | int) -> None:
        value = as_i32(value)
        assert local.type == value.type, f"{self.name}: {value.type} into a {local.type} local"
        if value.code != local.code:
            self._sink.extend((*value.code, ("local.set", local.index)))

    def store(self, name: str, address: Operand, value: Operand, immediate: Any = 0) -> None:
        self._sink.extend(instruction_code(name, (address, value), immediate))

    def call(self, function: Function, *arguments: Operand | int) -> Operand:
        """The call as an operand; a function without result is called by `perform`."""
        values = [as_i32(a) for a in arguments]
        types = tuple(v.type for v in values)
        assert types == function.param_types, f"{function.name}: {types}"
        code = (*(i for v in values for i in v.code), ("call", function))
        return Operand(function.result_type or "", code)

    def perform(self, effect: Operand) -> None:
        """Runs code for its effect and drops its result."""
        self._sink.extend(effect.code)
        if effect.type:
            self._sink.append(("drop",))

    def result(self, value: Operand) -> None:
        """Leaves the function's result on the stack: the last thing to do."""
        assert value.type == self.result_type
        self._sink.extend(value.code)

    def return_if(self, condition: Operand) -> None:
        with self.if_(condition):
            self._sink.append(("return",))

    @contextmanager
    def scope(self) -> Iterator[list[Local]]:
        own: list[Local] = []
        self.scopes.append(own)
        yield own
        self.scopes.pop()
        for local in own:
            self._free.setdefault(local.type, []).append(local.index)

    @contextmanager
    def nothing(self) -> Iterator[None]:
        """In the place of an `if_` that is always taken."""
        yield

    @contextmanager
    def into(self, code: Code) -> Iterator[None]:
        previous, self._sink = self._sink, code
        yield
        self._sink = previous

    def placeholder(self) -> Code:
        """A place in the code that `into` can fill later."""
        place: Code = []
        self._sink.append(place)
        return place

    @contextmanager
    def if_(self, condition: Operand) -> Iterator[None]:
        assert condition.type == I32
        self._sink.extend((*condition.code, ("if",)))
        with self.scope():
            yield
        self._sink.append(("end",))

    def else_(self) -> None:
        self._sink.append(("else",))

    @contextmanager
    def loop(self) -> Iterator[list[Local]]:
        """A loop that runs once more for each `repeat_if` that holds at its end."""
        self._sink.append(("loop",))
        with self.scope() as scope:
            yield scope
        self._sink.append(("end",))

    def repeat_if(self, condition: Operand) -> None:
        """Goes back to the start of the innermost loop; not inside a block within it."""
        self._sink.extend((*condition.code, ("br_if", 0)))

    @contextmanager
    def counted(self, count: Operand) -> Iterator[None]:
        """Runs the body `count` times; nothing happens for counts below 1."""
        left = self.local(count)
        with self.if_(op("i32.gt_s", left, 0)), self.loop():
            yield
            self.set(left, left - 1)
            self.repeat_if(left)

    def smaller(self, a: Operand, b: Operand | int) -> Local:
        """Of two signed i32 values."""
        return self._one_of("i32.lt_s", a, b)

    def larger(self, a: Operand, b: Operand | int) -> Local:
        """Of two signed i32 values."""
        return self._one_of("i32.gt_s", a, b)

    def _one_of(self, comparison: str, a: Operand, b: Operand | int) -> Local:
        # Of one instruction: a local or a constant, which need no place of their own.
        one, other = (x if len(x.code) == 1 else self.local(x) for x in (a, as_i32(b)))
        return self.local(select(op(comparison, one, other), one, other))

    def increment(self, local: Local, amount: Operand | int) -> None:
        self.set(local, local + amount)

    def _local(self, index: int, type_: str) -> Local:
        return Local(type_, (("local.get", index),), index)

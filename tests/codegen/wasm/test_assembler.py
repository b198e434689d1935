"""The assembler: instructions in wasmtime, locals, loops, code placed in front of loops."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
import wasmtime

from hearth.codegen.wasm.assembler import (
    Function,
    Operand,
    f32,
    f32x4,
    f64,
    i32,
    i32x4,
    i64,
    op,
    select,
    shuffle,
)
from hearth.codegen.wasm.module import Module
from hearth.codegen.wasm.opcodes import F32, I32, OPCODES, V128, signed_leb, unsigned_leb

pytestmark = pytest.mark.wasm


class Instance:
    def __init__(self, *functions: Function, shared: bool = False) -> None:
        self.module = Module(shared=shared)
        for function in functions:
            self.module.export(function)
        config = wasmtime.Config()
        config.wasm_relaxed_simd = config.wasm_threads = True
        config.shared_memory = True
        engine = wasmtime.Engine(config)
        self.store = wasmtime.Store(engine)
        self.compiled = wasmtime.Module(engine, self.module.encode())
        if shared:
            return  # only compiled: wasmtime-py cannot import a shared memory
        memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(1, 65536)))
        self.memory = memory
        self.exports = wasmtime.Instance(self.store, self.compiled, [memory]).exports(self.store)

    def __call__(self, name: str, *arguments: Any) -> Any:
        return self.exports[name](self.store, *arguments)

    def words(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}i", bytes(self.memory.read(self.store, 0, 4 * count))))


def result_of(value: Operand) -> Any:
    f = Function("f", (), value.type)
    f.result(value)
    return Instance(f)("f")


def lanes_of(value: Operand, kind: str = "i") -> list[Any]:
    f = Function("f")
    f.store("v128.store", i32(0), value)
    instance = Instance(f)
    instance("f")
    return list(struct.unpack(f"<4{kind}", bytes(instance.memory.read(instance.store, 0, 16))))


def test_every_instruction_is_one_that_wasmtime_knows() -> None:
    zeros = {I32: i32(0), F32: f32(0), "f64": f64(0), "i64": i64(0), V128: i32x4(0)}
    immediates = {"memory": 0, "lane": 1, "memory_lane": (0, 1), "lanes": bytes(range(16))}
    f = Function("everything")
    for name, row in OPCODES.items():
        if row.immediate == "const":
            continue
        operands = [zeros[t] for t in row.operands]
        immediate = immediates.get(row.immediate)
        if row.result is None:
            f.store(name, operands[0], operands[1], immediate)
        else:
            f.perform(op(name, *operands, immediate=immediate))
    Instance(f, shared=True)


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 300, 2**31 - 1, 2**32 - 1])
def test_leb_numbers_survive(value: int) -> None:
    assert result_of(i32(value)) == (value + 2**31) % 2**32 - 2**31
    assert result_of(i32(-value)) == (-value + 2**31) % 2**32 - 2**31
    assert unsigned_leb(624485) == bytes([0xE5, 0x8E, 0x26])
    assert signed_leb(-123456) == bytes([0xC0, 0xBB, 0x78])


def test_integer_arithmetic_folds_constants_and_keeps_values() -> None:
    f = Function("f", (I32,), I32)
    x = f.param(0)
    assert (x + 0).code == x.code
    assert (x * 1).code == x.code
    assert (i32(3) * 4 + 5 - 2).constant == 15
    f.result((x * 8 + 3) * 5 - x)
    instance = Instance(f)
    assert [instance("f", v) for v in (0, 7, -3)] == [15, 288, -102]


def test_floats_keep_every_bit() -> None:
    assert math.copysign(1, result_of(f32(-0.0))) == -1
    assert math.isnan(result_of(f32(math.nan)))
    assert result_of(op("f64.promote_f32", f32(0.1))) == float(np.float32(0.1))
    assert result_of(op("i32.trunc_sat_f32_s", f32(3e9))) == 2**31 - 1
    assert result_of(op("i32.trunc_sat_f32_u", f32(math.nan))) == 0


def test_lanes_are_in_memory_order() -> None:
    assert lanes_of(i32x4(1, 2, 3, -4)) == [1, 2, 3, -4]
    assert lanes_of(shuffle(i32x4(0, 1, 2, 3), i32x4(4, 5, 6, 7), 7, 0, 5, 2)) == [7, 0, 5, 2]
    replaced = op("i32x4.replace_lane", i32x4(9), 5, immediate=2)
    assert lanes_of(replaced) == [9, 9, 5, 9]
    assert lanes_of(op("f32x4.relaxed_madd", f32x4(2), f32x4(3), f32x4(4)), "f") == [10.0] * 4
    assert lanes_of(op("f32x4.max", f32x4(math.nan), f32x4(1)), "f") != [1.0] * 4


def test_memory_offsets_and_lanes() -> None:
    f = Function("f")
    f.store("i32.store", i32(0), i32(11), 4)
    loaded = op("v128.load32_lane", i32(0), i32x4(7), immediate=(4, 3))
    f.store("v128.store", i32(0), loaded, 16)
    f.store("v128.store32_lane", i32(8), f.local(i32x4(1, 2, 3, 4)), (4, 2))
    instance = Instance(f)
    instance("f")
    assert instance.words(8) == [0, 11, 0, 3, 7, 7, 7, 11]


def test_types_are_checked_when_code_is_written() -> None:
    with pytest.raises(AssertionError, match=r"f32\.add"):
        op("f32.add", f32(1), i32(1))
    f = Function("f", (I32,))
    with pytest.raises(AssertionError):
        f.set(f.param(0), f32(1))


def test_loops_and_conditions() -> None:
    f = Function("f", (I32, I32), I32)
    total = f.local(i32(0))
    with f.counted(f.param(0)), f.counted(f.param(1)):
        f.increment(total, 1)
    with f.if_(op("i32.gt_s", total, 10)):
        f.set(total, i32(10))
        f.else_()
        f.increment(total, 100)
    f.result(total)
    instance = Instance(f)
    counts = ((0, 3), (2, 3), (4, 4), (-1, 5))
    assert [instance("f", a, b) for a, b in counts] == [100, 106, 10, 100]


def test_a_local_is_free_again_when_its_scope_ends() -> None:
    f = Function("f", (), I32)
    with f.scope():
        first = f.local(i32(1))
    second = f.local(i32(2))
    assert second.index == first.index
    outer: list[Any] = f.scopes[0]
    with f.loop():
        hoisted = f.local(i32(3), fresh=True, scope=outer)
    assert hoisted.index != second.index
    f.result(second + hoisted)
    assert Instance(f)("f") == 5


def test_code_can_be_placed_in_front_of_a_loop() -> None:
    f = Function("f", (I32,), I32)
    total = f.local(i32(0))
    place = f.placeholder()
    with f.counted(f.param(0)):
        with f.into(place):
            square = f.local(f.param(0) * f.param(0), fresh=True)
        f.increment(total, square)
    f.result(total)
    assert Instance(f)("f", 5) == 125


def test_equal_functions_are_stored_once() -> None:
    module = Module()

    def make(name: str, value: float) -> Function:
        f = Function(name, (F32,), F32)
        f.result(op("f32.add", f.param(0), f32(value)))
        return module.add(f)

    assert make("a", 0.0) is make("b", 0.0)
    assert make("a", 0.0) is not make("c", -0.0)


def test_the_text_form_is_valid() -> None:
    helper = Function("helper", (V128,), V128)
    helper.result(op("f32x4.mul", helper.param(0), f32x4(0.5)))
    f = Function("main", (I32,), I32)
    with f.counted(f.param(0)):
        value = f.call(helper, op("v128.load", f.param(0), immediate=32))
        f.store("v128.store", f.param(0), value, 16)
        lane = op("i32x4.extract_lane", shuffle(value, value, 3, 2, 1, 0), immediate=1)
        f.perform(select(lane, i32(1), i32(2)))
    f.result(i32(-7))
    module = Module()
    module.add(helper)
    module.export(f)
    text = f'(module (import "env" "memory" (memory 1)) {module.text()})'
    assert wasmtime.wat2wasm(text)
    assert "v128.load offset=32" in module.text("main")
    assert "helper" not in module.text("main").splitlines()[0]

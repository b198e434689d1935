"""A module back from its bytes, so that the code which a bundle ships can be read.

The inverse of `module.py` for what it writes, and for nothing more: one imported memory, functions
with at most one result, names in the custom section.  The text form is `Module.text`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from hearth.codegen.wasm.assembler import Function, Instruction
from hearth.codegen.wasm.module import CONTROL, Module
from hearth.codegen.wasm.opcodes import OPCODES, TYPE_CODES, Opcode, unsigned_leb
from hearth.errors import BundleFormatError

T = TypeVar("T")

_CUSTOM, _TYPES, _IMPORTS, _FUNCTIONS, _EXPORTS, _CODE, _DATA = 0, 1, 2, 3, 7, 10, 11  # sections
_VALUE_TYPES: Final = {code: name for name, code in TYPE_CODES.items()}
_BY_CODE: Final = {row.code: row for row in OPCODES.values()}
_CONTROL_BY_CODE: Final = {code[0]: name for name, code in CONTROL.items()}
_PREFIXES: Final = frozenset((0xFC, 0xFD, 0xFE))  # an unsigned LEB128 number follows
_HEADER: Final = b"\0asm\1\0\0\0"
_INDEXED: Final = frozenset(("br_if", "call", "local.get", "local.set", "local.tee"))
_BLOCKS: Final = frozenset(("block", "loop", "if"))


class _Reader:
    """Bytes with a position; every read moves it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    @property
    def is_done(self) -> bool:
        return self.position >= len(self.data)

    def take(self, count: int) -> bytes:
        part = self.data[self.position : self.position + count]
        if len(part) < count:
            raise BundleFormatError("the WebAssembly module is cut short")
        self.position += count
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def unsigned(self) -> int:
        return self._leb()[0]

    def signed(self) -> int:
        value, bits = self._leb()
        return value - (1 << bits) if value >> (bits - 1) else value

    def name(self) -> str:
        return self.take(self.unsigned()).decode()

    def vector(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(self.unsigned())]

    def _leb(self) -> tuple[int, int]:
        """The value, and the number of its bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, shift


def decode_module(data: bytes) -> Module:
    """The module in `data`; raises `BundleFormatError` for one that Hearth did not write."""
    if data[:8] != _HEADER:
        raise BundleFormatError("this is not a WebAssembly module")
    reader = _Reader(data[8:])
    sections: dict[int, _Reader] = {}
    while not reader.is_done:
        code = reader.byte()
        sections[code] = _Reader(reader.take(reader.unsigned()))
    try:
        functions = _declared(sections)
        for function, body in zip(functions, _bodies(sections[_CODE]), strict=True):
            _fill(function, body, functions)
        shared = _imports_shared_memory(sections[_IMPORTS])
        constants = _constants(sections[_DATA]) if _DATA in sections else []
    except (KeyError, IndexError, ValueError) as error:
        raise BundleFormatError(
            "this WebAssembly module was not written by this version of Hearth", why=repr(error)
        ) from error
    return Module(shared, functions, constants=constants)


def _declared(sections: dict[int, _Reader]) -> list[Function]:
    """The functions with their types and names, still without code."""
    types = sections[_TYPES].vector(lambda: _signature(sections[_TYPES]))
    indices = sections[_FUNCTIONS].vector(sections[_FUNCTIONS].unsigned)
    names = _names(sections[_CUSTOM])
    functions = [Function(names[i], *types[t]) for i, t in enumerate(indices)]
    exports = sections[_EXPORTS]
    for _ in range(exports.unsigned()):
        exports.name()
        exports.byte()  # kind: function
        functions[exports.unsigned()].is_exported = True
    return functions


def _signature(reader: _Reader) -> tuple[tuple[str, ...], str | None]:
    reader.byte()  # 0x60: a function type
    params = reader.vector(lambda: _VALUE_TYPES[reader.byte()])
    results = reader.vector(lambda: _VALUE_TYPES[reader.byte()])
    return tuple(params), results[0] if results else None


def _names(reader: _Reader) -> dict[int, str]:
    assert reader.name() == "name"
    reader.byte()  # subsection 1: names of functions
    reader.unsigned()
    return dict(reader.vector(lambda: (reader.unsigned(), reader.name())))


def _constants(reader: _Reader) -> list[bytes]:
    reader.unsigned()  # one segment, at a constant address
    while reader.byte() != CONTROL["end"][0]:
        pass
    size = reader.unsigned()
    return [reader.take(4) for _ in range(size // 4)]


def _imports_shared_memory(reader: _Reader) -> bool:
    reader.unsigned()  # one import: env.memory
    reader.name()
    reader.name()
    reader.byte()  # kind: memory
    return reader.byte() == 0x03


def _bodies(reader: _Reader) -> list[_Reader]:
    return reader.vector(lambda: _Reader(reader.take(reader.unsigned())))


def _fill(function: Function, body: _Reader, functions: list[Function]) -> None:
    for _ in range(body.unsigned()):
        count = body.unsigned()
        function.local_types += [_VALUE_TYPES[body.byte()]] * count
    function.code = list(_instructions(body, functions))
    assert function.code.pop() == ("end",)  # of the function itself


def _instructions(reader: _Reader, functions: list[Function]) -> Iterator[Instruction]:
    while not reader.is_done:
        first = reader.byte()
        control = _CONTROL_BY_CODE.get(first)
        if control is None:
            prefixed = first in _PREFIXES
            code = bytes([first]) + (unsigned_leb(reader.unsigned()) if prefixed else b"")
            row = _BY_CODE[code]
            yield (row.name, *_immediate(row, reader))
        elif control == "call":
            yield (control, functions[reader.unsigned()])
        elif control in _INDEXED:
            yield (control, reader.unsigned())
        else:
            if control in _BLOCKS:
                reader.byte()  # 0x40: no result
            yield (control,)


def _immediate(row: Opcode, reader: _Reader) -> tuple[Any, ...]:
    match row.immediate:
        case "":
            return ()
        case "memory" | "memory_lane":
            reader.unsigned()  # alignment: the natural one
            offset = reader.unsigned()
            return (offset,) if row.immediate == "memory" else ((offset, reader.byte()),)
        case "lane":
            return (reader.byte(),)
        case "lanes":
            return (reader.take(16),)
        case _:
            return (_constant(row.name, reader),)


def _constant(name: str, reader: _Reader) -> int | float | bytes:
    if name == "v128.const":
        return reader.take(16)
    if name in ("i32.const", "i64.const"):
        return reader.signed()
    size, form = (4, "<f") if name == "f32.const" else (8, "<d")
    value: float = struct.unpack(form, reader.take(size))[0]
    return value

"""A WebAssembly module: functions to bytes, and to the text form that people read.

The module imports one memory and exports some functions; it has no tables or globals, and of data
only constants.  Functions of equal body are stored once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hearth.codegen.wasm.assembler import Code, Function, Instruction
from hearth.codegen.wasm.opcodes import OPCODES, TYPE_CODES, signed_leb, unsigned_leb

CONTROL = {
    "block": b"\x02\x40", "loop": b"\x03\x40", "if": b"\x04\x40", "else": b"\x05", "end": b"\x0b",
    "br_if": b"\x0d", "return": b"\x0f", "call": b"\x10", "drop": b"\x1a", "select": b"\x1b",
    "local.get": b"\x20", "local.set": b"\x21", "local.tee": b"\x22",
}  # fmt: skip
MAXIMUM_PAGES = 65536
CONSTANTS, CONSTANTS_END = 1280, 2048  # addresses: spec/manifest.md, "WebAssembly"

Body = tuple[bytes | Function, ...]  # encoded, except for the numbers of called functions


@dataclass
class Module:
    """Functions, callees before their callers; what no export reaches is left out of the binary.

    `twins` maps a function to the one that takes its place in this module, wherever it is called.
    """

    shared: bool = False
    functions: list[Function] = field(default_factory=list)
    twins: dict[Function, Function] = field(default_factory=dict)
    constants: list[bytes] = field(default_factory=list)  # four bytes each, from CONSTANTS on
    _bodies: dict[Function, Body] = field(default_factory=dict)
    _known: dict[tuple[bytes, Body], Function] = field(default_factory=dict)

    def add(self, function: Function) -> Function:
        """The function, or the one already here with the same type and body."""
        known = self._known.setdefault((_signature(function), self._body(function)), function)
        if known is function:
            self.functions.append(function)
        return known

    def export(self, function: Function) -> None:
        function.is_exported = True
        self.functions.append(function)

    def variant(self, twins: Mapping[Function, Function], *, shared: bool) -> Module:
        """Another module with these functions, to which exports can be added."""
        return Module(
            shared, list(self.functions), dict(twins), list(self.constants), dict(self._bodies),
            dict(self._known),
        )  # fmt: skip

    def constant_address(self, value: bytes) -> int | None:
        """Where four bytes lie in memory, for as many constants as there is room."""
        if value not in self.constants:
            if CONSTANTS + 4 * len(self.constants) >= CONSTANTS_END:
                return None
            self.constants.append(value)
        return CONSTANTS + 4 * self.constants.index(value)

    def encode(self) -> bytes:
        functions = self._reachable()
        numbers = {f: i for i, f in enumerate(functions)}
        numbers |= {f: numbers[twin] for f, twin in self.twins.items() if twin in numbers}
        signatures = [_signature(f) for f in functions]
        types = list(dict.fromkeys(signatures))
        bodies = [_linked(self._body(f), numbers) for f in functions]
        exports = [
            _name(f.name) + b"\x00" + unsigned_leb(numbers[f]) for f in functions if f.is_exported
        ]
        names = [unsigned_leb(i) + _name(f.name) for i, f in enumerate(functions)]
        limits = b"\x03" if self.shared else b"\x01"
        memory = limits + unsigned_leb(1) + unsigned_leb(MAXIMUM_PAGES)
        return b"".join((
            b"\x00asm\x01\x00\x00\x00",
            _section(1, _vector(types)),
            _section(2, _vector([_name("env") + _name("memory") + b"\x02" + memory])),
            _section(3, _vector([unsigned_leb(types.index(s)) for s in signatures])),
            _section(7, _vector(exports)),
            _section(10, _vector([unsigned_leb(len(b)) + b for b in bodies])),
            self._data(),
            _section(0, _name("name") + _section(1, _vector(names))),
        ))  # fmt: skip

    def _data(self) -> bytes:
        if not self.constants:
            return b""
        content = b"".join(self.constants)
        place = b"\x00" + OPCODES["i32.const"].code + signed_leb(CONSTANTS) + CONTROL["end"]
        return _section(11, _vector([place + unsigned_leb(len(content)) + content]))

    def _reachable(self) -> list[Function]:
        """The exports and whatever they call, in order."""
        found: set[Function] = set()
        stack = [f for f in self.functions if f.is_exported]
        while stack:
            function = stack.pop()
            if function not in found:
                found.add(function)
                called = [part for part in self._body(function) if isinstance(part, Function)]
                stack += [self.twins.get(f, f) for f in called]
        return [f for f in self.functions if f in found]

    def _body(self, function: Function) -> Body:
        if function not in self._bodies:
            self._bodies[function] = _encoded(function)
        return self._bodies[function]

    def text(self, name: str | None = None) -> str:
        """The text form of one function, or of all."""
        chosen = [f for f in self._reachable() if name in (None, f.name)]
        return "\n".join(line for f in chosen for line in _text(f))


def flatten(code: Code) -> Iterator[Instruction]:
    """The instructions of nested code, in order."""
    for entry in code:
        if isinstance(entry, list):
            yield from flatten(entry)
        else:
            yield entry


def _signature(function: Function) -> bytes:
    results = [function.result_type] if function.result_type else []
    return b"\x60" + b"".join(
        _vector([bytes([TYPE_CODES[t]]) for t in types])
        for types in (function.param_types, results)
    )


def _encoded(function: Function) -> Body:
    runs: list[tuple[str, int]] = []
    for type_ in function.local_types:
        if runs and runs[-1][0] == type_:
            runs[-1] = (type_, runs[-1][1] + 1)
        else:
            runs.append((type_, 1))
    declared = _vector([unsigned_leb(n) + bytes([TYPE_CODES[t]]) for t, n in runs])
    parts: list[bytes | Function] = []
    code = [declared]
    for instruction in flatten(function.code):
        if instruction[0] == "call":
            parts += [b"".join((*code, CONTROL["call"])), instruction[1]]
            code = []
        else:
            code.append(_encode(instruction))
    return (*parts, b"".join((*code, CONTROL["end"])))


def _linked(body: Body, numbers: Mapping[Function, int]) -> bytes:
    return b"".join(
        part if isinstance(part, bytes) else unsigned_leb(numbers[part]) for part in body
    )


def _encode(instruction: Instruction) -> bytes:
    name, *immediates = instruction
    if name in CONTROL:
        return CONTROL[name] + b"".join(unsigned_leb(i) for i in immediates)
    row = OPCODES[name]
    if not immediates:
        return row.code
    value = immediates[0]
    match row.immediate:
        case "memory":
            return row.code + unsigned_leb(row.align) + unsigned_leb(value)
        case "memory_lane":
            offset, lane = value
            return row.code + unsigned_leb(row.align) + unsigned_leb(offset) + bytes([lane])
        case "lane":
            return row.code + bytes([value])
        case "lanes":
            return row.code + bytes(value)
        case _:
            return row.code + _constant(name, value)


def _constant(name: str, value: float | int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if name in ("i32.const", "i64.const"):
        return signed_leb(int(value))
    return struct.pack("<f" if name == "f32.const" else "<d", value)


def _text(function: Function) -> Iterator[str]:
    params = "".join(f" {t}" for t in function.param_types)
    result = f" (result {function.result_type})" if function.result_type else ""
    yield f"(func ${function.name}" + (f" (param{params})" if params else "") + result
    if function.local_types:
        yield f"  (local {' '.join(function.local_types)})"
    depth = 1
    for instruction in flatten(function.code):
        name = instruction[0]
        depth -= name in ("end", "else")
        yield "  " * depth + _instruction_text(instruction)
        depth += name in ("block", "loop", "if", "else")
    yield ")"


def _instruction_text(instruction: Instruction) -> str:
    name, *immediates = instruction
    if not immediates:
        return str(name)
    value = immediates[0]
    if name == "call":
        return f"call ${value.name}"
    kind = OPCODES[name].immediate if name in OPCODES else ""
    if kind == "memory":
        return f"{name} offset={value}" if value else str(name)
    if kind == "memory_lane":
        offset, lane = value
        return f"{name} offset={offset} {lane}" if offset else f"{name} {lane}"
    if name == "v128.const":
        return f"{name} i32x4 " + " ".join(f"0x{lane:08x}" for lane in struct.unpack("<4I", value))
    if kind == "lanes":
        return f"{name} " + " ".join(map(str, value))
    return f"{name} {value}"


def _section(code: int, content: bytes) -> bytes:
    return bytes([code]) + unsigned_leb(len(content)) + content


def _vector(items: list[bytes]) -> bytes:
    return unsigned_leb(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    return unsigned_leb(len(text.encode())) + text.encode()

"""The WebAssembly instructions that we emit, as one table.

A row is `name code operands result [immediate]`; the encoder, the text form and the type checks all
derive from it.  Codes `fd..` are SIMD (a LEB128 number follows the prefix), `fe..` atomics, `fc..`
saturating conversions.  Types: i i32, l i64, f f32, d f64, v v128, `-` nothing.

Source: WebAssembly core specification 3.0, appendix "Index of Instructions".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

I32, I64, F32, F64, V128 = "i32", "i64", "f32", "f64", "v128"
TYPE_CODES: Final = {I32: 0x7F, I64: 0x7E, F32: 0x7D, F64: 0x7C, V128: 0x7B}
_TYPES: Final = {"i": I32, "l": I64, "f": F32, "d": F64, "v": V128}


@dataclass(frozen=True, slots=True)
class Opcode:
    """`immediate`: "" | memory (address offset) | lane | memory_lane | lanes (16 bytes) | const."""

    name: str
    code: bytes
    operands: tuple[str, ...]
    result: str | None
    immediate: str
    align: int  # log2 of the natural alignment of a memory access


def unsigned_leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_leb(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


_SCALAR = """
i32.const 41 - i const | f32.const 43 - f const | f64.const 44 - d const | i64.const 42 - l const
i32.load 28 i i memory:2 | f32.load 2a i f memory:2
i32.store 36 ii - memory:2 | f32.store 38 if - memory:2
i32.eqz 45 i i | i32.eq 46 ii i | i32.ne 47 ii i
i32.lt_s 48 ii i | i32.lt_u 49 ii i | i32.gt_s 4a ii i | i32.gt_u 4b ii i
i32.le_s 4c ii i | i32.le_u 4d ii i | i32.ge_s 4e ii i | i32.ge_u 4f ii i
f32.eq 5b ff i | f32.ne 5c ff i | f32.lt 5d ff i | f32.gt 5e ff i | f32.le 5f ff i | f32.ge 60 ff i
i32.add 6a ii i | i32.sub 6b ii i | i32.mul 6c ii i
i32.div_s 6d ii i | i32.div_u 6e ii i | i32.rem_s 6f ii i | i32.rem_u 70 ii i
i32.and 71 ii i | i32.or 72 ii i | i32.xor 73 ii i
i32.shl 74 ii i | i32.shr_s 75 ii i | i32.shr_u 76 ii i
i64.mul 7e ll l | i64.shr_u 88 ll l | i32.wrap_i64 a7 l i | i64.extend_i32_u ad i l
f32.abs 8b f f | f32.neg 8c f f | f32.ceil 8d f f | f32.floor 8e f f | f32.trunc 8f f f
f32.nearest 90 f f | f32.sqrt 91 f f
f32.add 92 ff f | f32.sub 93 ff f | f32.mul 94 ff f | f32.div 95 ff f | f32.min 96 ff f
f32.max 97 ff f
f64.floor 9c d d | f64.add a0 dd d | f64.mul a2 dd d | f64.div a3 dd d
f32.convert_i32_s b2 i f | f32.convert_i32_u b3 i f | f32.demote_f64 b6 d f
f64.convert_i32_s b7 i d | f64.promote_f32 bb f d
i32.reinterpret_f32 bc f i | f32.reinterpret_i32 be i f
i32.trunc_sat_f32_s fc00 f i | i32.trunc_sat_f32_u fc01 f i
"""

_SIMD = """
v128.load 0 i v memory:4 | v128.load32_splat 9 i v memory:2 | v128.load32_zero 92 i v memory:2
v128.store 11 iv - memory:4 | v128.const 12 - v const | i8x16.shuffle 13 vv v lanes
v128.load32_lane 86 iv v memory_lane:2 | v128.store32_lane 90 iv - memory_lane:2
v128.load64_zero 93 i v memory:3 | v128.load64_lane 87 iv v memory_lane:3
v128.store64_lane 91 iv - memory_lane:3
i32x4.splat 17 i v | f32x4.splat 19 f v | f64x2.splat 20 d v
i32x4.extract_lane 27 v i lane | i32x4.replace_lane 28 vi v lane
f32x4.extract_lane 31 v f lane | f32x4.replace_lane 32 vf v lane | f64x2.extract_lane 33 v d lane
i32x4.eq 55 vv v | i32x4.ne 56 vv v | i32x4.lt_s 57 vv v | i32x4.lt_u 58 vv v
i32x4.gt_s 59 vv v | i32x4.gt_u 60 vv v | i32x4.le_s 61 vv v | i32x4.le_u 62 vv v
i32x4.ge_s 63 vv v | i32x4.ge_u 64 vv v
f32x4.eq 65 vv v | f32x4.ne 66 vv v | f32x4.lt 67 vv v | f32x4.gt 68 vv v | f32x4.le 69 vv v
f32x4.ge 70 vv v
v128.not 77 v v | v128.and 78 vv v | v128.andnot 79 vv v | v128.or 80 vv v | v128.xor 81 vv v
v128.bitselect 82 vvv v | v128.any_true 83 v i | i32x4.all_true 163 v i | i32x4.bitmask 164 v i
f32x4.demote_f64x2_zero 94 v v | f64x2.promote_low_f32x4 95 v v
f32x4.ceil 103 v v | f32x4.floor 104 v v | f32x4.trunc 105 v v | f32x4.nearest 106 v v
f64x2.floor 117 v v | f64x2.nearest 148 v v
i32x4.abs 160 v v | i32x4.neg 161 v v
i32x4.shl 171 vi v | i32x4.shr_s 172 vi v | i32x4.shr_u 173 vi v
i32x4.add 174 vv v | i32x4.sub 177 vv v | i32x4.mul 181 vv v
i32x4.min_s 182 vv v | i32x4.min_u 183 vv v | i32x4.max_s 184 vv v | i32x4.max_u 185 vv v
i64x2.shr_u 205 vi v | i64x2.extmul_low_i32x4_u 222 vv v | i64x2.extmul_high_i32x4_u 223 vv v
f32x4.abs 224 v v | f32x4.neg 225 v v | f32x4.sqrt 227 v v
f32x4.add 228 vv v | f32x4.sub 229 vv v | f32x4.mul 230 vv v | f32x4.div 231 vv v
f32x4.min 232 vv v | f32x4.max 233 vv v | f32x4.pmin 234 vv v | f32x4.pmax 235 vv v
f64x2.add 240 vv v | f64x2.sub 241 vv v | f64x2.mul 242 vv v | f64x2.div 243 vv v
i32x4.trunc_sat_f64x2_s_zero 252 v v | i32x4.trunc_sat_f64x2_u_zero 253 v v
f64x2.convert_low_i32x4_s 254 v v | f64x2.convert_low_i32x4_u 255 v v
i32x4.trunc_sat_f32x4_s 248 v v | i32x4.trunc_sat_f32x4_u 249 v v
f32x4.convert_i32x4_s 250 v v | f32x4.convert_i32x4_u 251 v v
f32x4.relaxed_madd 261 vvv v | f32x4.relaxed_nmadd 262 vvv v
"""

_ATOMIC = """
memory.atomic.notify 0 ii i memory:2 | memory.atomic.wait32 1 iil i memory:2
i32.atomic.load 16 i i memory:2 | i32.atomic.store 23 ii - memory:2
i32.atomic.rmw.add 30 ii i memory:2
"""


def _rows(table: str) -> Iterator[list[str]]:
    for row in table.replace("|", "\n").splitlines():
        if row.strip():
            yield row.split()


def _opcode(row: list[str], code: bytes) -> Opcode:
    name, _, operands, result, *immediate = row
    kind, _, align = (immediate[0] if immediate else "").partition(":")
    types = tuple(_TYPES[t] for t in operands.replace("-", ""))
    return Opcode(name, code, types, _TYPES.get(result), kind, int(align or 0))


OPCODES: Final[dict[str, Opcode]] = {
    row[0]: _opcode(row, code)
    for prefix, table in ((b"", _SCALAR), (b"\xfd", _SIMD), (b"\xfe", _ATOMIC))
    for row in _rows(table)
    for code in [prefix + unsigned_leb(int(row[1])) if prefix else bytes.fromhex(row[1])]
}

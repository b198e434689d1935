"""Kernels to WebAssembly: bytes written from Python, no compiler to install.

opcodes.py      the instructions we use, as one table
assembler.py    operands and functions: typed expressions, locals, loops
module.py       a module: sections, text form
maths.py        exp, log, tanh, sin, ... on four lanes
spelling.py     how each scalar op is spelled
normalize.py    kernels made ready: axes merged, small loops unrolled, values shared
levels.py       loop levels: what is computed where, which pointers move
expressions.py  scalar expressions on one or four lanes
loops.py        any kernel as loops
gemm.py, conv.py   the templates
program.py      all of it as one module
"""

from hearth.codegen.wasm.program import Call, WasmModule, emit_module

__all__ = ["Call", "WasmModule", "emit_module"]

"""Kernels to WebAssembly: bytes written from Python, no compiler to install.

opcodes.py      the instructions we use, as one table
assembler.py    operands and functions: typed expressions, locals, loops
module.py       a module: sections, text form; decode.py reads one back
maths.py        exp, log, tanh, sin, ... on four lanes; division.py, random.py
spelling.py     how each scalar op is spelled
canonical.py    equal expressions as one object, and what they depend on
normalize.py    adjacent axes merged
vectorize.py    which axis runs on four lanes
levels.py       loop levels: what is computed where, which pointers move
elements.py     addresses, guards, loads and stores
expressions.py  scalar expressions on one or four lanes
reductions.py   accumulators
loops.py        any kernel as loops
microkernels.py, tiles.py, gemm.py               the template of matrix products
conv_methods.py which of these a convolution takes; geometry.py and conv_emitter.py serve both
planes.py, windows.py, conv.py, conv_weights.py  convolutions as matrix products
cook_toom.py, linear.py, strands.py, winograd_*.py, winograd.py   by minimal filtering
scatter.py      sums by index: the gradient of a table
epilogue.py     what a template does with its sums
kernels.py, templates.py, threads.py, program.py all of it as one module
"""

from hearth.codegen.wasm.kernels import METHODS, ConvMethod, ConvMethods
from hearth.codegen.wasm.program import (
    Call,
    Features,
    WasmModule,
    emit_module,
    emit_modules,
)

__all__ = [
    "METHODS",
    "Call",
    "ConvMethod",
    "ConvMethods",
    "Features",
    "WasmModule",
    "emit_module",
    "emit_modules",
]

"""A hand-written bundle, y = w·x with squared error and SGD, whose WebAssembly is readable text.

It depends on no stage of the compiler, so what runs bundles can be tested by itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import wasmtime

from hearth.bundle.manifest import (
    Buffer,
    Input,
    Kernel,
    Manifest,
    Optimizer,
    OptimizerGroup,
    Output,
    Program,
    State,
    Step,
    Wasm,
    WasmVariant,
    Workgroups,
)
from hearth.bundle.safetensors import encode_safetensors
from hearth.bundle.write import write_bundle
from hearth.ir.dim import B, Dim, shape_of

FIRST_WEIGHT = np.array([0.5], np.float32)

_PROGRAMS = ("train", "evaluate", "predict", "gradients")
_X, _Y, _PREDICTED, _LOSS, _GRADIENT, _RATE = range(6)  # in each program's own block of buffers
_WEIGHT, _STEP = 24, 25
_SHAPES = (shape_of((B, 1)), shape_of((B, 1)), shape_of((B, 1)), (), shape_of((1,)), shape_of((1,)))
_BUFFERS = (
    *(Buffer("float32", shape, slot=i) for _ in _PROGRAMS for i, shape in enumerate(_SHAPES)),
    Buffer("float32", shape_of((1,)), offset=0),
    Buffer("int32", shape_of((1,)), offset=256),
)
_SLOTS = tuple((size,) for size in (4 * B, 4 * B, 4 * B, *[Dim.of(4)] * 3))

_WAT = """
(module
  (import "env" "memory" (memory 1))
  (global $block (mut i32) (i32.const 0))  ;; where the program's addresses begin, in bytes
  (func $at (param $buffer i32) (result i32)
    (i32.load offset=2048
      (i32.add (global.get $block) (i32.shl (local.get $buffer) (i32.const 2)))))
  (func $weight (result i32) (i32.load offset=2144 (i32.const 0)))
  (func $step (result i32) (i32.load offset=2148 (i32.const 0)))
  ;; predicted = w x; if $learn also loss = mean (predicted - y)^2 and its gradient
  (func $pass (param $batch i32) (param $learn i32) (param $program i32)
    (local $i i32) (local $x f32) (local $error f32) (local $loss f32) (local $gradient f32)
    (global.set $block (i32.mul (local.get $program) (i32.const 24)))
    (loop $next
      (local.set $x (f32.load (i32.add (call $at (i32.const 0)) (local.get $i))))
      (f32.store (i32.add (call $at (i32.const 2)) (local.get $i))
        (f32.mul (local.get $x) (f32.load (call $weight))))
      (if (local.get $learn) (then
        (local.set $error (f32.sub
          (f32.load (i32.add (call $at (i32.const 2)) (local.get $i)))
          (f32.load (i32.add (call $at (i32.const 1)) (local.get $i)))))
        (local.set $loss (f32.add (local.get $loss)
          (f32.mul (local.get $error) (local.get $error))))
        (local.set $gradient (f32.add (local.get $gradient)
          (f32.mul (f32.const 2) (f32.mul (local.get $error) (local.get $x)))))))
      (local.set $i (i32.add (local.get $i) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $i) (i32.shl (local.get $batch) (i32.const 2)))))
    (if (local.get $learn) (then
      (f32.store (call $at (i32.const 3))
        (f32.div (local.get $loss) (f32.convert_i32_u (local.get $batch))))
      (f32.store (call $at (i32.const 4))
        (f32.div (local.get $gradient) (f32.convert_i32_u (local.get $batch)))))))
  (func (export "predict") (param i32 i32 i32)
    (call $pass (local.get 0) (i32.const 0) (i32.const 2)))
  (func (export "evaluate") (param i32 i32 i32)
    (call $pass (local.get 0) (i32.const 1) (i32.const 1)))
  (func (export "gradients") (param i32 i32 i32)
    (call $pass (local.get 0) (i32.const 1) (i32.const 3)))
  (func (export "train") (param i32 i32 i32)
    (call $pass (local.get 0) (i32.const 1) (i32.const 0))
    (f32.store (call $weight) (f32.sub (f32.load (call $weight))
      (f32.mul (f32.load (call $at (i32.const 5))) (f32.load (call $at (i32.const 4))))))
    (i32.store (call $step)
      (i32.add (i32.load (call $step)) (i32.const 1)))))
"""


def _program(name: str) -> Program:
    first = len(_SHAPES) * _PROGRAMS.index(name)
    inputs = [Input("x", "input", "float32", shape_of((B, 1)), first + _X)]
    outputs = [Output("predicted", "output", "float32", shape_of((B, 1)), first + _PREDICTED)]
    steps = [Step(1, (first + _X, first + _PREDICTED, _WEIGHT))]
    if name != "predict":
        inputs.append(Input("y", "target", "float32", shape_of((B, 1)), first + _Y))
        outputs.append(Output("loss", "loss", "float32", (), first + _LOSS))
        steps = [Step(0, (*(first + i for i in range(5)), _WEIGHT))]
    if name == "train":
        rate = Input("learning_rate", "hyper", "float32", shape_of((1,)), first + _RATE)
        inputs.append(rate)
        steps.append(Step(2, (first + _GRADIENT, _WEIGHT, first + _RATE, _STEP)))
    if name == "gradients":
        outputs.append(Output("w", "gradient", "float32", shape_of((1,)), first + _GRADIENT))
    return Program(tuple(inputs), tuple(outputs), _SLOTS, tuple(steps))


MANIFEST = Manifest(
    compiler="0.1.0",
    model="Line",
    state=(
        State("w", "parameter", "float32", (1,), 0, trainable=True),
        State("hearth/step", "step", "int32", (1,), 256),
        State("hearth/seed", "seed", "uint32", (2,), 512),
    ),
    state_bytes=520,
    buffers=_BUFFERS,
    kernels=tuple(
        Kernel(name, (Workgroups(Dim.of(1), 1),)) for name in ("learn", "forward", "update")
    ),
    programs={name: _program(name) for name in _PROGRAMS},
    random=0,
    optimizer=Optimizer("SGD", (OptimizerGroup(0.1, ("w",), {}),)),
    wasm=Wasm((WasmVariant("program.wasm", ("simd128",)),), 0),
)


def write_line_bundle(folder: Path) -> Path:
    """Writes the bundle and returns its folder; needs a built hearth.js."""
    files = {
        "program.wasm": bytes(wasmtime.wat2wasm(_WAT)),
        "weights.safetensors": encode_safetensors({"w": FIRST_WEIGHT}),
    }
    write_bundle(folder, MANIFEST, files)
    return folder

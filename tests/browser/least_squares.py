"""Writes spec/fixtures/least_squares: a whole bundle by hand, small enough to read.

The model is a linear classifier with 4 features and 3 classes, trained with class-weighted squared
error against one-hot targets (`ignore_index` -100) by SGD with momentum 0.9.  It is not made by the
compiler: runtimes are tested against it, so it has one of everything that a manifest can say.  The
kernels are written by hand: `least_squares.wat` here, `kernels.wgsl` in the folder itself.

Run it with `python -m tests.browser.least_squares`; a test checks that the folder is current.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from wasmtime import wat2wasm

from hearth.bundle.manifest import (
    Buffer,
    Golden,
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
    Wgsl,
    Workgroups,
)
from hearth.bundle.safetensors import encode_safetensors
from hearth.bundle.write import write_bundle
from hearth.ir.dim import B, Dim

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE.parents[1] / "spec" / "fixtures" / "least_squares"
Array = NDArray[np.float64]
FEATURES, CLASSES, GOLDEN_BATCH, MOMENTUM, RATE = 4, 3, 5, 0.9, 0.1
CLASS_WEIGHT = np.array([1.0, 2.0, 0.5])


# --- what the model means, in float64 ---------------------------------------------------------


def initial_weights() -> tuple[Array, Array]:
    random = np.random.default_rng(7)
    weight = random.normal(size=(CLASSES, FEATURES)).astype(np.float32)
    return weight.astype(np.float64), np.array([0.5, -0.25, 0.125])


def golden_batch() -> tuple[Array, NDArray[np.int64]]:
    x = np.random.default_rng(8).normal(size=(GOLDEN_BATCH, FEATURES)).astype(np.float32)
    return x.astype(np.float64), np.array([0, 2, -100, 1, 1])


def gradients(
    weight: Array, bias: Array, x: Array, y: NDArray[np.int64]
) -> tuple[float, Array, Array]:
    """Loss and gradients of weight and bias."""
    used = y >= 0
    residual = (x @ weight.T + bias - np.eye(CLASSES)[np.where(used, y, 0)]) * used[:, None]
    weighted = residual * CLASS_WEIGHT[np.where(used, y, 0)][:, None]
    scale = 1 / residual.size
    loss = float((residual * weighted).sum() * scale)
    return loss, 2 * scale * weighted.T @ x, 2 * scale * weighted.sum(0)


# --- the manifest -----------------------------------------------------------------------------

P, M, G, SEEN, STEP, CLASS, G_WEIGHT, G_BIAS = range(8)
TRAIN, GRADIENTS, EVALUATE, PREDICT = 8, 14, 19, 24  # first buffer in a slot of each program
KERNELS = ("logits", "residual", "loss", "gradient", "update")


def state() -> tuple[State, ...]:
    def parameter(name: str, shape: tuple[int, ...], offset: int) -> State:
        return State(name, "parameter", "float32", shape, offset, trainable=True)

    def momentum(name: str, shape: tuple[int, ...], offset: int) -> State:
        key = "momentum_buffer"
        return State(
            f"{key}/{name}", "optimizer", "float32", shape, offset, key=key, parameter=name
        )

    return (
        parameter("linear.weight", (CLASSES, FEATURES), 0),
        parameter("linear.bias", (CLASSES,), 48),
        State("batches_seen", "buffer", "int64", (), 768, persistent=True),
        momentum("linear.weight", (CLASSES, FEATURES), 256),
        momentum("linear.bias", (CLASSES,), 304),
        State("gradients", "workspace", "float32", (15,), 512),
        State("class_weight", "constant", "float32", (CLASSES,), 1536),
        State("step", "step", "int32", (), 1024),
        State("seed", "seed", "uint32", (2,), 1280),
    )


def buffers() -> tuple[Buffer, ...]:
    one = Dim.of(1)
    x, y = (B, Dim.of(FEATURES)), (B,)
    logits = (B, Dim.of(CLASSES))

    def slots(*shapes: tuple[str, tuple[Dim, ...]]) -> list[Buffer]:
        return [Buffer(dtype, shape, slot=i) for i, (dtype, shape) in enumerate(shapes)]  # type: ignore[arg-type]

    step = [("float32", logits), ("float32", logits), ("float32", ())]
    batch = [("float32", x), ("int32", y)]
    return (
        *(Buffer("float32", (Dim.of(15),), offset=o) for o in (0, 256, 512)),
        Buffer("int32", (), offset=768),
        Buffer("int32", (one,), offset=1024),
        Buffer("float32", (Dim.of(CLASSES),), offset=1536),
        Buffer("float32", (Dim.of(CLASSES), Dim.of(FEATURES)), offset=512),
        Buffer("float32", (Dim.of(CLASSES),), offset=560),
        *slots(*batch, ("float32", (one,)), *step),
        *slots(*batch, *step),
        *slots(*batch, *step),
        *slots(("float32", x), ("float32", logits)),
    )


def program(first: int, name: str) -> Program:
    x_shape, logits_shape = (B, Dim.of(FEATURES)), (B, Dim.of(CLASSES))
    sizes = [16 * B, 4 * B]
    inputs = [Input("x", "input", "float32", x_shape, first)]
    if name == "predict":
        output = Output("logits", "output", "float32", logits_shape, first + 1)
        only = Step(0, (P, first, first + 1))
        return Program(tuple(inputs), (output,), ((16 * B,), (12 * B,)), (only,))
    inputs.append(Input("y", "target", "int64", (B,), first + 1, range=(0, 3), except_=-100))
    y, rate = first + 1, first + 2
    if name == "train":
        inputs.append(Input("learning_rate", "hyper", "float32", (Dim.of(1),), rate))
        sizes.append(Dim.of(4))
    out = first + len(inputs)
    residual, loss = out + 1, out + 2
    outputs = [
        Output("loss", "loss", "float32", (), loss),
        Output("logits", "output", "float32", logits_shape, out),
    ]
    steps = [
        Step(0, (P, first, out)),
        Step(1, (out, y, residual)),
        Step(2, (residual, y, CLASS, loss)),
    ]
    if name == "evaluate":
        outputs.append(Output("mean_square", "metric", "float32", (), loss))
    else:
        steps.append(Step(3, (residual, y, CLASS, first, G)))
    if name == "gradients":
        shape = (Dim.of(CLASSES), Dim.of(FEATURES))
        outputs.append(Output("linear.weight", "gradient", "float32", shape, G_WEIGHT))
        outputs.append(Output("linear.bias", "gradient", "float32", shape[:1], G_BIAS))
    if name == "train":
        steps.append(Step(4, (P, M, G, rate, STEP, SEEN)))
    slots = ((s,) for s in (*sizes, 12 * B, 12 * B, Dim.of(4)))
    return Program(tuple(inputs), tuple(outputs), tuple(slots), tuple(steps))


def manifest() -> Manifest:
    per_logit = (Workgroups(3 * B, 64),)
    once, per_weight = (Workgroups(Dim.of(1), 1),), (Workgroups(Dim.of(15), 64),)
    extents = (per_logit, per_logit, once, per_weight, per_weight)
    group = OptimizerGroup(RATE, ("linear.weight", "linear.bias"), {"momentum": MOMENTUM})
    return Manifest(
        compiler="by hand",
        model="least squares",
        state=state(),
        state_bytes=1792,
        buffers=buffers(),
        kernels=tuple(Kernel(n, e) for n, e in zip(KERNELS, extents, strict=True)),
        programs={
            "train": program(TRAIN, "train"),
            "evaluate": program(EVALUATE, "evaluate"),
            "predict": program(PREDICT, "predict"),
            "gradients": program(GRADIENTS, "gradients"),
        },
        random=0,
        optimizer=Optimizer("SGD", (group,)),
        wasm=Wasm(
            (
                WasmVariant("threads.wasm", ("simd128", "threads")),
                WasmVariant("relaxed.wasm", ("simd128", "relaxed-simd")),
                WasmVariant("simd.wasm", ("simd128",)),
            ),
            scratch_bytes=64,
        ),
        wgsl=Wgsl("kernels.wgsl"),
        golden=Golden("golden.safetensors", GOLDEN_BATCH, 42),
    )


# --- the code, in text form -------------------------------------------------------------------


def wat(*, relaxed: bool, threads: bool) -> str:
    """The module's text: the hand-written kernels, and a function per program that calls them."""
    memory = "(memory 1 65536 shared)" if threads else "(memory 1)"
    kernels, barrier = (HERE / "least_squares.wat").read_text().split(";; barrier\n")
    kernels = kernels.replace("PRODUCT", "f32x4.relaxed_madd" if relaxed else "f32x4.mul")
    kernels = kernels.replace("ZERO", "(v128.const f32x4 0 0 0 0)" if relaxed else "")
    wait = "(call $barrier (local.get 2))" if threads else ""
    names = {"train": TRAIN, "gradients": GRADIENTS, "evaluate": EVALUATE, "predict": PREDICT}
    programs = "".join(wat_program(name, first, wait) for name, first in names.items())
    memory_import = f'(import "env" "memory" {memory})'
    return f"(module {memory_import} {kernels} {barrier if threads else ''} {programs})"


def wat_program(name: str, first: int, wait: str) -> str:
    calls = []
    for i, step in enumerate(program(first, name).steps):
        table = " ".join(f"(i32.load (i32.const {2048 + 4 * b}))" for b in step.buffers)
        batch = "(local.get 0) (local.get 1) (local.get 2)"
        calls.append(f"{wait if i else ''} (call ${KERNELS[step.kernel]} {batch} {table})")
    return f'(func (export "{name}") (param i32 i32 i32) {" ".join(calls)})'


# --- the files --------------------------------------------------------------------------------


def files() -> dict[str, bytes]:
    weight, bias = initial_weights()
    x, y = golden_batch()
    loss, weight_gradient, bias_gradient = gradients(weight, bias, x, y)
    single = {
        "input/0": x,
        "loss": np.array(loss),
        "gradient/linear.weight": weight_gradient,
        "gradient/linear.bias": bias_gradient,
        "parameter/linear.weight": weight - RATE * weight_gradient,
        "parameter/linear.bias": bias - RATE * bias_gradient,
    }
    weights: dict[str, NDArray[Any]] = {
        "linear.weight": weight.astype(np.float32),
        "linear.bias": bias.astype(np.float32),
        "batches_seen": np.array(0, np.int64),
    }
    golden: dict[str, NDArray[Any]] = {n: v.astype(np.float32) for n, v in single.items()}
    return {
        "weights.safetensors": encode_safetensors(weights),
        "constants.safetensors": encode_safetensors(
            {"class_weight": CLASS_WEIGHT.astype(np.float32)}
        ),
        "golden.safetensors": encode_safetensors(golden | {"target/0": y}),
        "kernels.wgsl": (FOLDER / "kernels.wgsl").read_bytes(),
        "simd.wasm": bytes(wat2wasm(wat(relaxed=False, threads=False))),
        "relaxed.wasm": bytes(wat2wasm(wat(relaxed=True, threads=False))),
        "threads.wasm": bytes(wat2wasm(wat(relaxed=False, threads=True))),
    }


if __name__ == "__main__":
    write_bundle(FOLDER, manifest(), files(), runtime=False)

"""A small hand-written manifest that uses every field of the contract."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    WgslVariant,
    Workgroups,
)
from hearth.bundle.safetensors import encode_safetensors
from hearth.ir.dim import B, Dim, shape_of

STATE = (
    State("fc.weight", "parameter", "float32", (3, 4), 0, trainable=True),
    State("fc.bias", "parameter", "float32", (3,), 256, trainable=True),
    State("bn.num_batches_tracked", "buffer", "int64", (), 512, persistent=True),
    State("mask", "buffer", "bool", (3,), 768, persistent=False),
    State("exp_avg/fc.weight", "optimizer", "float32", (3, 4), 1024, key="exp_avg",
          parameter="fc.weight"),
    State("hearth/step", "step", "int32", (1,), 1280),
    State("hearth/seed", "seed", "uint32", (2,), 1536),
)  # fmt: skip

X, Y, LOGITS, LOSS, W, RATE = range(6)
BUFFERS = (
    Buffer("float32", shape_of((B, 4)), slot=0),
    Buffer("int32", shape_of((B,)), slot=1),
    Buffer("float32", shape_of((B, 3)), slot=2),
    Buffer("float32", (), slot=3),
    Buffer("float32", shape_of((3, 4)), offset=0),
    Buffer("float32", shape_of((1,)), slot=4),
)
SLOTS = ((16 * B,), (4 * B,), (12 * B, Dim.of(48)), (Dim.of(4),), (Dim.of(4),))

TRAIN = Program(
    inputs=(
        Input("x", "input", "float32", shape_of((B, 4)), X),
        Input("y", "target", "int64", shape_of((B,)), Y, range=(0, 3), except_=-100),
        Input("learning_rate", "hyper", "float32", shape_of((1,)), RATE),
    ),
    outputs=(
        Output("loss", "loss", "float32", (), LOSS),
        Output("logits", "output", "float32", shape_of((B, 3)), LOGITS),
    ),
    slots=SLOTS,
    steps=(Step(0, (X, W, LOGITS)), Step(1, (LOGITS, Y, LOSS))),
)

MANIFEST = Manifest(
    compiler="0.1.0",
    model="Sample",
    state=STATE,
    state_bytes=1544,
    buffers=BUFFERS,
    kernels=(
        Kernel("fc_forward", (Workgroups(B, 16), Workgroups(Dim.of(3), 16))),
        Kernel("loss", (Workgroups(Dim.of(1), 1),)),
    ),
    programs={"train": TRAIN},
    random=1,
    optimizer=Optimizer("Adam", (OptimizerGroup(1e-3, ("fc.weight", "fc.bias"), {"eps": 1e-8}),)),
    wasm=Wasm((WasmVariant("program.wasm", ("simd128", "threads")),), 4096),
    wgsl=Wgsl(
        "kernels.wgsl",
        (
            WgslVariant(
                "quads",
                "kernels.quads.wgsl",
                ("subgroups",),
                software=True,
                workgroups={"fc_forward": (Workgroups(B, 4),)},
            ),
        ),
    ),
    golden=Golden("golden.safetensors", 8, 0),
)


def arrays(seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random values for every state entry that a file or checkpoint holds."""
    random = np.random.default_rng(seed)
    return {
        "fc.weight": random.normal(size=(3, 4)).astype("f4"),
        "fc.bias": random.normal(size=3).astype("f4"),
        "bn.num_batches_tracked": np.array(5, "i8"),
        "exp_avg/fc.weight": random.normal(size=(3, 4)).astype("f4"),
        "hearth/step": np.array([7], "i4"),
        "hearth/seed": np.array([1, 2], "u4"),
    }


def files() -> dict[str, bytes]:
    """The compiler's files; their code is not code, nothing here runs it."""
    values = arrays()
    weights = ("fc.weight", "fc.bias", "bn.num_batches_tracked")
    return {
        "weights.safetensors": encode_safetensors({n: values[n] for n in weights}),
        "constants.safetensors": encode_safetensors({"mask": np.array([True, False, True])}),
        "program.wasm": b"\0asm",
        "kernels.wgsl": b"// kernel: fc_forward\n",
        "kernels.quads.wgsl": b"// kernel: fc_forward\n",
        "golden.safetensors": encode_safetensors({}),
    }

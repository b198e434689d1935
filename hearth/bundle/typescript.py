"""`trainer.d.ts`: the names, shapes and array types of one compiled model, for TypeScript users."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from hearth.bundle.manifest import Input, Manifest, Output, Program
from hearth.ir.dim import Shape

# What `Trainer` takes and gives: hearth.js widens bytes and narrows int64 itself.
_TAKEN: Final = {
    "float32": "Float32Array",
    "int64": "Int32Array | BigInt64Array",
    "int32": "Int32Array",
    "uint32": "Uint32Array",
    "bool": "Uint8Array",
}
_GIVEN: Final = _TAKEN | {"int64": "Int32Array"}

_IMPORT: Final = 'import type { EvaluateResult, Trainer, TrainResult } from "./hearth.js";\n'
_TRAINER: Final = """\
/** `const trainer = (await Trainer.load(url)) as unknown as ModelTrainer;` */
export interface ModelTrainer
  extends Omit<Trainer, "trainBatch" | "evaluateBatch" | "predict" | "gradients"> {
  trainBatch(x: Inputs, y: Targets): Promise<TrainResult>;
  evaluateBatch(x: Inputs, y: Targets): Promise<EvaluateResult>;
  predict(x: Inputs): Promise<Float32Array>;
  gradients(x: Inputs, y: Targets): Promise<Record<ParameterName, Float32Array>>;
}
"""


def trainer_types(manifest: Manifest) -> str:
    """The text of `trainer.d.ts`."""
    program = _main_program(manifest)
    weights = [s.name for s in manifest.weights]
    trained = [s.name for s in manifest.state if s.role == "parameter" and s.trainable]
    parts = [
        f"// The types of {json.dumps(manifest.model)}, written by hearth {manifest.compiler}.\n",
        *([_IMPORT] if program is not None else []),
        _union("WeightName", "A parameter or buffer under its state_dict key.", weights),
        _union("ParameterName", "A trained parameter: a key of the gradients.", trained),
    ]
    if program is not None:
        parts += [
            _arrays("Inputs", "What a batch of inputs holds, in order.", program.inputs, "input"),
            _arrays("Targets", "What a batch of targets holds.", program.inputs, "target"),
            _results(program.outputs),
            _TRAINER,
        ]
    return "\n".join(parts)


def _main_program(manifest: Manifest) -> Program | None:
    """The program that knows all inputs, targets and outputs."""
    first = next(iter(manifest.programs.values()), None)
    return manifest.programs.get("train", first)


def _union(name: str, comment: str, members: Iterable[str]) -> str:
    lines = [f"\n  | {json.dumps(member, ensure_ascii=False)}" for member in members] or [" never"]
    return f"/** {comment} */\nexport type {name} ={''.join(lines)};\n"


def _arrays(name: str, comment: str, entries: Iterable[Input], role: str) -> str:
    lines = [
        f"  /** {_shape(e.shape)}{_range(e)} */\n  {_identifier(e.name, i)}: {_TAKEN[e.dtype]},\n"
        for i, e in enumerate(entries)
        if e.role == role
    ]
    body = "\n" + "".join(lines) if lines else ""
    return f"/** {comment} */\nexport type {name} = readonly [{body}];\n"


def _results(entries: Iterable[Output]) -> str:
    lines = [
        f"  /** {_shape(e.shape)} */\n  {_identifier(e.name, i)}: {_GIVEN[e.dtype]},\n"
        for i, e in enumerate(entries)
        if e.role == "output"
    ]
    body = "\n" + "".join(lines) if lines else ""
    return f"/** What the model returns, in order. */\nexport type Outputs = readonly [{body}];\n"


def _shape(shape: Shape) -> str:
    return f"[{', '.join(str(extent) for extent in shape)}], B is the batch size"


def _range(entry: Input) -> str:
    if entry.range is None:
        return ""
    extra = f" or {entry.except_}" if entry.except_ is not None else ""
    return f"; from {entry.range[0]} to {entry.range[1] - 1}{extra}"


def _identifier(name: str, index: int) -> str:
    """A label of a tuple element: `input/0` becomes `input_0`."""
    label = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return label if label.isidentifier() else f"_{index}"

"""`trainer.d.ts`: the names, shapes and array types of one bundle, for TypeScript users."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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
_FUNCTION_IMPORT: Final = 'import type { Trainer } from "./hearth.js";\n'
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
_BUNDLE: Final = """\
/** `const bundle = (await Trainer.load(url)) as unknown as FunctionBundle;` */
export interface FunctionBundle
  extends Omit<Trainer, "run" | "trainBatch" | "evaluateBatch" | "predict" | "gradients"> {
  run<P extends keyof Programs>(
    program: P, inputs: Programs[P]["inputs"],
  ): Promise<Programs[P]["outputs"]>;
}
"""


def trainer_types(manifest: Manifest) -> str:
    """The text of `trainer.d.ts`: of a model to train, or of a bundle of functions."""
    return _model_types(manifest) if "train" in manifest.programs else _function_types(manifest)


def _function_types(manifest: Manifest) -> str:
    programs = "".join(_program(name, p) for name, p in manifest.programs.items())
    comment = "/** What each program takes and gives. */"
    return "\n".join(
        (
            _header(manifest),
            _FUNCTION_IMPORT,
            _weight_names(manifest),
            f"{comment}\nexport interface Programs {{\n{programs}}}\n",
            _BUNDLE,
        )
    )


def _program(name: str, program: Program) -> str:
    taken = "".join(_field(i, _TAKEN, _range(i)) for i in program.inputs if i.role == "input")
    given = "".join(_field(o, _GIVEN) for o in program.outputs)
    sides = f"    inputs: {{\n{taken}    }};\n    outputs: {{\n{given}    }};\n"
    return f"  {json.dumps(name, ensure_ascii=False)}: {{\n{sides}  }};\n"


def _field(entry: Input | Output, types: Mapping[str, str], note: str = "") -> str:
    name = json.dumps(entry.name, ensure_ascii=False)
    return f"      /** {_shape(entry.shape)}{note} */\n      {name}: {types[entry.dtype]};\n"


def _model_types(manifest: Manifest) -> str:
    program = manifest.programs["train"]
    trained = [s.name for s in manifest.state if s.role == "parameter" and s.trainable]
    return "\n".join(
        (
            _header(manifest),
            _IMPORT,
            _weight_names(manifest),
            _union("ParameterName", "A trained parameter: a key of the gradients.", trained),
            _arrays("Inputs", "What a batch of inputs holds, in order.", program.inputs, "input"),
            _arrays("Targets", "What a batch of targets holds.", program.inputs, "target"),
            _results(program.outputs),
            _TRAINER,
        )
    )


def _header(manifest: Manifest) -> str:
    return f"// The types of {json.dumps(manifest.model)}, written by hearth {manifest.compiler}.\n"


def _weight_names(manifest: Manifest) -> str:
    names = [s.name for s in manifest.weights]
    return _union("WeightName", "A parameter or buffer under its state_dict key.", names)


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
    batched = ", B is the batch size" if any(not extent.is_static for extent in shape) else ""
    return f"[{', '.join(str(extent) for extent in shape)}]{batched}"


def _range(entry: Input) -> str:
    if entry.range is None:
        return ""
    extra = f" or {entry.except_}" if entry.except_ is not None else ""
    return f"; from {entry.range[0]} to {entry.range[1] - 1}{extra}"


def _identifier(name: str, index: int) -> str:
    """A label of a tuple element: `input/0` becomes `input_0`."""
    label = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return label if label.isidentifier() else f"_{index}"

"""`manifest.json` as frozen dataclasses: the same fields, names and order as spec/manifest.md.

This file is the table of fields; `json_fields.py` turns it into JSON and back, and
`check_manifest.py` checks what types cannot say (indices, offsets, unique names).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from hearth.bundle.json_fields import decode, encode
from hearth.errors import BundleFormatError, InvalidInputError
from hearth.ir.dim import Dim, Shape

FORMAT = "hearth-bundle"
VERSION = 1

FileDtype = Literal["float32", "int64", "int32", "bool", "uint32"]
DeviceDtype = Literal["float32", "int32", "uint32", "bool"]
StateRole = Literal[
    "parameter", "buffer", "optimizer", "constant", "seed", "step", "scaler", "workspace"
]
InputRole = Literal["input", "target", "hyper"]
WebgpuFeature = Literal["subgroups", "shader-f16"]
WasmFeature = Literal["simd128", "relaxed-simd", "threads"]
OutputRole = Literal["loss", "output", "metric", "gradient", "norm"]
Accuracy = Literal["fast", "strict"]
Half = Literal["float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class State:
    """One thing that lives from step to step; `offset` is in bytes."""

    name: str
    role: StateRole
    dtype: FileDtype
    shape: tuple[int, ...]
    offset: int
    trainable: bool | None = None
    persistent: bool | None = None
    key: str | None = None
    parameter: str | None = None

    @property
    def is_weight(self) -> bool:
        """Whether `weights.safetensors` holds it."""
        return self.role == "parameter" or (self.role == "buffer" and self.persistent is True)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory that kernels touch: in the state region (`offset`) or in a slot of its program."""

    dtype: DeviceDtype
    shape: Shape
    offset: int | None = None
    slot: int | None = None
    half: bool | None = None  # true: all elements are float16 numbers


@dataclass(frozen=True, slots=True)
class Workgroups:
    """One factor of a kernel's number of workgroups: ⌈extent / per⌉."""

    extent: Dim
    per: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """`origin` is the line of the model, or the first of several, that it comes from."""

    name: str
    workgroups: tuple[Workgroups, ...]
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """`range` is half open; `except_` is one more admitted value (`ignore_index`)."""

    name: str
    role: InputRole
    dtype: FileDtype
    shape: Shape
    buffer: int
    range: tuple[int, int] | None = None
    except_: int | None = field(default=None, metadata={"key": "except"})


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    role: OutputRole
    dtype: FileDtype
    shape: Shape
    buffer: int


@dataclass(frozen=True, slots=True)
class Step:
    """`kernel` indexes the manifest's kernels, `buffers` its buffers (one per parameter)."""

    kernel: int
    buffers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A slot is as large as the largest of its byte sizes for the actual batch size.

    It begins where the highest of the slots ends that it lies `above`.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    slots: tuple[tuple[Dim, ...], ...]
    steps: tuple[Step, ...]
    above: tuple[tuple[int, ...], ...] | None = None  # None: each above the one before
    half_slots: tuple[tuple[Dim, ...], ...] | None = None  # where halves take two bytes


@dataclass(frozen=True, slots=True)
class OptimizerGroup:
    learning_rate: float
    parameters: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Optimizer:
    class_: str = field(metadata={"key": "class"})
    groups: tuple[OptimizerGroup, ...]

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = encode(self)
        return result

    @staticmethod
    def from_json(value: object, path: str = "optimizer") -> Optimizer:
        return decode(Optimizer, value, path)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates: the tensor `rates` of a file, float64 [intervals, groups]."""

    file: str
    interval: Literal["epoch", "step"]


@dataclass(frozen=True, slots=True)
class WasmVariant:
    file: str
    features: tuple[WasmFeature, ...]


@dataclass(frozen=True, slots=True)
class Wasm:
    variants: tuple[WasmVariant, ...]
    scratch_bytes: int


@dataclass(frozen=True, slots=True)
class Finish:
    """How the second phase of a kernel runs, and the memory that both bind after its buffers."""

    workgroups: tuple[Workgroups, ...]
    scratch_bytes: Dim


@dataclass(frozen=True, slots=True)
class WgslVariant:
    """Other modules for some of the kernels, by name, with their workgroups.

    For devices with all `features`; `software` where they suit a device in software.  A kernel in
    `finish` has a second module.
    """

    name: str
    file: str
    features: tuple[WebgpuFeature, ...]
    software: bool
    workgroups: dict[str, tuple[Workgroups, ...]]
    finish: dict[str, Finish] | None = None


@dataclass(frozen=True, slots=True)
class WgslHalves:
    """Modules of the kernels that touch halves, for memory in which these take two bytes."""

    file: str
    features: tuple[WebgpuFeature, ...]
    workgroups: dict[str, tuple[Workgroups, ...]]


@dataclass(frozen=True, slots=True)
class Wgsl:
    file: str
    variants: tuple[WgslVariant, ...] | None = None
    halves: WgslHalves | None = None


@dataclass(frozen=True, slots=True)
class Golden:
    file: str
    batch: int
    seed: int
    tolerance: float | None = None  # relative to a tensor's largest element; None is 1e-3
    tolerances: dict[str, float] | None = None  # those of single tensors


@dataclass(frozen=True, slots=True)
class LossScaling:
    """The constants of a `torch.amp.GradScaler`; where it stands is state of role `scaler`."""

    growth_factor: float
    backoff_factor: float
    growth_interval: int

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = encode(self)
        return value

    @staticmethod
    def from_json(value: object, path: str) -> LossScaling:
        return decode(LossScaling, value, path)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a runtime must know about a bundle.

    `files` is filled in by `write_bundle`; the compiler leaves it empty.
    """

    compiler: str
    model: str
    state: tuple[State, ...]
    state_bytes: int
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    programs: dict[str, Program]
    random: int
    files: dict[str, FileEntry] = field(default_factory=dict)
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    wasm: Wasm | None = None
    wgsl: Wgsl | None = None
    golden: Golden | None = None
    accuracy: Accuracy | None = None
    precision: Half | None = None
    loss_scaling: LossScaling | None = None
    format: str = FORMAT
    version: int = VERSION

    @property
    def weights(self) -> tuple[State, ...]:
        """The entries of `weights.safetensors`, in the order of that file."""
        return tuple(s for s in self.state if s.is_weight)

    def program(self, name: str) -> Program:
        """The program of that name; raises `InvalidInputError` where there is none."""
        if name not in self.programs:
            known = ", ".join(self.programs)
            raise InvalidInputError(f"the bundle has no program {name!r}; it has {known}")
        return self.programs[name]

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = encode(self)
        first = ("format", "version", "compiler", "model", "files")
        return {k: value[k] for k in first} | value

    def to_bytes(self) -> bytes:
        """The text of `manifest.json`: readable, and the same bytes for the same manifest."""
        return (_layout(self.to_json(), "") + "\n").encode()

    @staticmethod
    def from_json(value: object, path: str = "manifest") -> Manifest:
        """The manifest in a JSON value; raises `BundleFormatError` with the path of a bad field."""
        _check_version(value, path)
        return decode(Manifest, value, path)


def _check_version(value: object, path: str) -> None:
    """Format and version first: another version may have other fields."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BundleFormatError(
            f'{path}: this is not a Hearth bundle (no "format": "{FORMAT}")',
            remedy="point to the folder that `hearth compile` wrote",
        )
    version = value.get("version")
    if type(version) is not int or version < 1:
        raise BundleFormatError(f"{path}.version: expected a positive integer, found {version!r}")
    if version > VERSION:
        raise BundleFormatError(
            f"{path}.version is {version}, this Hearth reads up to {VERSION}",
            why="the bundle was written by a newer Hearth",
            remedy="update Hearth, or compile the model again with this one",
        )


def _layout(value: object, indent: str) -> str:
    """JSON on one line where it fits in 100 columns, else one line per entry."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(indent) + len(line) <= 100 or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [
            f"{inner}{json.dumps(k, ensure_ascii=False)}: {_layout(v, inner)}"
            for k, v in value.items()
        ]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + _layout(v, inner) for v in value) + f"\n{indent}]"

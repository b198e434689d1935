"""spec/manifest.schema.json says what the dataclasses say: the same fields and choices."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from hearth.bundle import manifest as m

SPEC = Path(__file__).resolve().parents[2] / "spec"
SCHEMA = json.loads((SPEC / "manifest.schema.json").read_bytes())
OBJECTS: dict[type, dict[str, Any]] = {
    m.Manifest: SCHEMA,
    m.OptimizerGroup: SCHEMA["$defs"]["optimizer"]["properties"]["groups"]["items"],
    m.WasmVariant: SCHEMA["$defs"]["wasm"]["properties"]["variants"]["items"],
    m.WgslVariant: SCHEMA["$defs"]["wgsl"]["properties"]["variants"]["items"],
    m.Workgroups: SCHEMA["$defs"]["workgroups"]["items"],
    m.Step: SCHEMA["$defs"]["program"]["properties"]["steps"]["items"],
    **{
        kind: SCHEMA["$defs"][name]
        for name, kind in {
            "file": m.FileEntry, "state": m.State, "buffer": m.Buffer, "kernel": m.Kernel,
            "program": m.Program, "input": m.Input, "output": m.Output,
            "optimizer": m.Optimizer, "wasm": m.Wasm, "wgsl": m.Wgsl, "golden": m.Golden,
            "finish": m.Finish,
        }.items()
    },
}  # fmt: skip
CHOICES = (
    (m.FileDtype, SCHEMA["$defs"]["fileDtype"]),
    (m.DeviceDtype, SCHEMA["$defs"]["deviceDtype"]),
    (m.StateRole, SCHEMA["$defs"]["state"]["properties"]["role"]),
    (m.InputRole, SCHEMA["$defs"]["input"]["properties"]["role"]),
    (m.OutputRole, SCHEMA["$defs"]["output"]["properties"]["role"]),
)


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_an_object_has_the_fields_of_its_dataclass(kind: type) -> None:
    schema = OBJECTS[kind]
    keys = {f.metadata.get("key", f.name): f for f in fields(kind)}
    assert set(schema["properties"]) == set(keys)
    assert schema["additionalProperties"] is False
    optional = {key for key, f in keys.items() if f.default is None}
    assert set(schema["required"]) == set(keys) - optional
    assert all(keys[key].default is MISSING or key in ("format", "version") for key in
               set(keys) - optional)  # fmt: skip


def test_choices_are_the_same() -> None:
    for literal, schema in CHOICES:
        assert list(get_args(literal)) == schema["enum"]
    version = SCHEMA["properties"]["version"]["const"]
    assert (version, SCHEMA["properties"]["format"]["const"]) == (m.VERSION, m.FORMAT)

"""Modules read back from their bytes: nothing is lost, and what is foreign is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from hearth.cli import main
from hearth.codegen.wasm.decode import decode_module
from hearth.codegen.wasm.module import Module
from hearth.errors import BundleFormatError

STEP = Path(__file__).parents[2] / "cli" / "small_step.py"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("bundle")
    assert main(["compile", f"{STEP}:small", "-o", str(folder), "--backends", "wasm"]) == 0
    return {path.name: path.read_bytes() for path in folder.glob("*.wasm")}


def test_every_variant_of_a_bundle_is_read_back_byte_for_byte(modules: dict[str, bytes]) -> None:
    assert len(modules) >= 2
    for name, data in modules.items():
        decoded = decode_module(data)
        assert decoded.encode() == data, name
        assert decoded.shared == ("threads" in name)
        exported = {f.name for f in decoded.functions if f.is_exported}
        assert exported == {"train", "evaluate", "predict", "gradients"}


def test_the_text_form_assembles_again(modules: dict[str, bytes]) -> None:
    decoded: Module = decode_module(modules["program.wasm"])
    for i, function in enumerate(decoded.functions):
        function.name += f".{i}"  # variants of one helper share a name, which only text minds
    memory = '(import "env" "memory" (memory 1 65536))'
    code = bytes(wasmtime.wat2wasm(f"(module {memory}\n{decoded.text()})"))
    wasmtime.Module.validate(wasmtime.Engine(), code)


def test_a_truncated_module_is_refused_wherever_it_is_cut(modules: dict[str, bytes]) -> None:
    data = modules["program.wasm"]
    for end in range(0, len(data) - 1, 97):
        with pytest.raises(BundleFormatError):
            decode_module(data[:end])


def test_a_foreign_module_is_refused() -> None:
    foreign = bytes(wasmtime.wat2wasm('(module (func (export "f") (param i64)))'))
    for data in (b"", b"GIF89a..", foreign):
        with pytest.raises(BundleFormatError):
            decode_module(data)

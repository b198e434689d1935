"""Bundle folders: what is written is read again, and damage is noticed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hearth.bundle import write
from hearth.bundle.read import read_bundle
from hearth.bundle.typescript import trainer_types
from hearth.bundle.write import write_bundle
from hearth.errors import BundleFormatError, StorageError
from tests.bundle.samples import MANIFEST, arrays, files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "dist", MANIFEST, files(), runtime=False)
    return tmp_path / "dist"


def test_a_written_bundle_is_read_again(folder: Path) -> None:
    bundle = read_bundle(folder)
    bundle.verify_files()
    assert replace(bundle.manifest, files={}) == MANIFEST
    assert bundle.manifest.files.keys() == files().keys()
    assert bundle.file("program.wasm") == files()["program.wasm"]


def test_the_initial_state_comes_from_weights_constants_and_zeros(folder: Path) -> None:
    state = read_bundle(folder).initial_state()
    assert list(state) == [s.name for s in MANIFEST.state]
    assert (state["fc.weight"] == arrays()["fc.weight"]).all()
    assert state["mask"].tolist() == [True, False, True]
    assert state["exp_avg/fc.weight"].tolist() == np.zeros((3, 4)).tolist()


def test_the_same_bundle_is_written_with_the_same_bytes(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    write_bundle(folder, MANIFEST, files(), runtime=False)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_files_of_an_older_bundle_are_removed_and_others_are_kept(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    without = {n: d for n, d in files().items() if n != "constants.safetensors"}
    write_bundle(folder, MANIFEST, without, runtime=False)
    assert not (folder / "constants.safetensors").exists()
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", sorted(files()))
def test_a_truncated_file_is_refused_by_name(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(BundleFormatError, match=f"{name} has {len(data) - 1} bytes"):
        read_bundle(folder).verify_files()


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "kernels.wgsl"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleFormatError, match="SHA-256 differs"):
        read_bundle(folder).file("kernels.wgsl")


def test_a_missing_file_or_manifest_is_a_storage_error(folder: Path, tmp_path: Path) -> None:
    (folder / "program.wasm").unlink()
    with pytest.raises(StorageError, match=r"cannot read .*program.wasm"):
        read_bundle(folder).verify_files()
    with pytest.raises(StorageError, match="there is no manifest.json"):
        read_bundle(tmp_path)
    with pytest.raises(BundleFormatError, match="has no file 'other'"):
        read_bundle(folder).file("other")


def test_a_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("<html>")
    with pytest.raises(BundleFormatError, match="is not JSON"):
        read_bundle(folder)


def test_an_unbuilt_runtime_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "RUNTIME_FOLDER", tmp_path / "web")
    with pytest.raises(StorageError, match="npm ci && npm run build"):
        write_bundle(tmp_path / "dist", MANIFEST, files())
    assert not (tmp_path / "dist").exists()


def test_the_types_name_this_models_tensors() -> None:
    text = trainer_types(MANIFEST)
    assert '  | "bn.num_batches_tracked"' in text
    assert 'export type ParameterName =\n  | "fc.weight"\n  | "fc.bias";' in text
    assert "/** [B], B is the batch size; from 0 to 2 or -100 */\n  y: Int32Array" in text
    assert "logits: Float32Array" in text


def check_types(folder: Path, source: str) -> None:
    """TypeScript accepts the source, beside the bundle `dist` in the folder."""
    (folder / "use.ts").write_text(source)
    compiler = write.RUNTIME_FOLDER / "node_modules" / ".bin" / "tsc"
    options = ["--strict", "--noEmit", "--target", "es2022", "--moduleResolution", "bundler"]
    webgpu = write.RUNTIME_FOLDER / "node_modules" / "@webgpu"
    command = [compiler, *options, "--module", "es2022", "--typeRoots", webgpu, "use.ts"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_types_compile_beside_the_runtimes_own(tmp_path: Path) -> None:
    write_bundle(tmp_path / "dist", MANIFEST, files())
    check_types(
        tmp_path,
        'import type { ModelTrainer, WeightName } from "./dist/trainer.js";\n'
        "export async function f(t: ModelTrainer): Promise<WeightName> {\n"
        "  await t.trainBatch([new Float32Array(4)], [new Int32Array(1)]);\n"
        "  // @ts-expect-error: labels are not floats\n"
        "  await t.trainBatch([new Float32Array(4)], [new Float32Array(1)]);\n"
        "  const g = await t.gradients([new Float32Array(4)], [new Int32Array(1)]);\n"
        '  return g["fc.weight"].length > 0 ? "fc.weight" : "bn.num_batches_tracked";\n'
        "}\n",
    )


def test_a_bundle_of_functions_has_the_types_of_each(tmp_path: Path) -> None:
    program = MANIFEST.programs["train"]
    renamed = tuple(
        replace(i, role="input", name=f"input/{k}") for k, i in enumerate(program.inputs[:2])
    )
    functions = {"k-means": replace(program, inputs=renamed)}
    write_bundle(tmp_path / "dist", replace(MANIFEST, programs=functions), files())
    check_types(
        tmp_path,
        'import type { FunctionBundle } from "./dist/trainer.js";\n'
        "export async function f(bundle: FunctionBundle): Promise<Float32Array> {\n"
        '  const given = { "input/0": new Float32Array(4), "input/1": new Int32Array(1) };\n'
        '  const found = await bundle.run("k-means", given);\n'
        "  // @ts-expect-error: there is no such program\n"
        '  await bundle.run("k-medians", given);\n'
        "  // @ts-expect-error: labels are not floats\n"
        '  await bundle.run("k-means", { ...given, "input/1": new Float32Array(1) });\n'
        '  return found["logits"];\n'
        "}\n",
    )


def test_names_that_are_no_identifiers_still_make_valid_types() -> None:
    train = MANIFEST.programs["train"]
    odd = replace(train, inputs=(replace(train.inputs[0], name="input/0"), *train.inputs[1:]))
    assert "input_0: Float32Array" in trainer_types(replace(MANIFEST, programs={"train": odd}))

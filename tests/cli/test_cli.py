"""The command line: what each command prints and leaves behind, and how it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

import hearth
from hearth import cli
from hearth.bundle.memory import needed_bytes
from hearth.bundle.read import read_bundle
from hearth.cli import main
from hearth.data import Split
from hearth.driver import generate, runners
from hearth.site import _split_files
from tests.cli.small_step import STEP

ROOT = Path(__file__).parents[2]


def test_check_accepts_a_supported_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{STEP}:small"]) == 0
    assert "every operator is supported" in capsys.readouterr().out


def test_check_lists_what_is_missing_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{STEP}:unsupported"]) == 1
    printed = capsys.readouterr().out
    assert "matrix_exp" in printed
    assert "small_step.py:" in printed


def test_bench_prints_dispatches_memory_and_a_row_for_every_batch(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--runner", "wasm", "--batch", "1", "3", "--seconds", "0.01"]
    assert main(["bench", str(bundle), *arguments]) == 0
    title, headings, *rows = capsys.readouterr().out.splitlines()
    assert "dispatches (kernels) a step" in title
    assert "ms/step" in headings
    assert "arena" in headings
    assert [row.split()[:2] for row in rows] == [["1", "wasm"], ["3", "wasm"]]


def test_compile_writes_a_bundle(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()}
    assert {"manifest.json", "weights.safetensors", "hearth.js", "kernels.wgsl"} <= names


def test_compile_for_one_backend(tmp_path: Path) -> None:
    target = ["compile", f"{STEP}:small", "-o", str(tmp_path), "--backends", "wasm"]
    assert main(target) == 0
    assert not (tmp_path / "kernels.wgsl").exists()
    assert "wgsl" not in json.loads((tmp_path / "manifest.json").read_text())


def test_compile_adds_programs_that_look_inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ["compile", f"{STEP}:pictures", "-o", str(tmp_path), "--backends", "wasm"]
    assert main([*target, "--inspect", "0", "--explain", "1"]) == 0
    programs = json.loads((tmp_path / "manifest.json").read_text())["programs"]
    assert {"grad_cam", "occlusion"} < set(programs)
    seen = [o["name"] for o in programs["inspect"]["outputs"] if "/activation/" in o["name"]]
    assert seen == ["statistics/activation/0", "histogram/activation/0", "values/activation/0"]
    assert main([*target, "--inspect"]) == 0
    programs = json.loads((tmp_path / "manifest.json").read_text())["programs"]
    assert "statistics/activation/3" in {o["name"] for o in programs["inspect"]["outputs"]}
    assert "grad_cam" not in programs
    assert main([*target, "--explain", "9"]) == 2
    assert "no module '9'" in capsys.readouterr().err
    assert main(["compile", f"{STEP}:small", "-o", str(tmp_path), "--explain"]) == 2
    assert "no batch of images" in capsys.readouterr().err


def test_inspect_prints_kernels_bytes_dispatches_and_memory(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(bundle), "--batch", "7"]) == 0
    printed = capsys.readouterr().out
    size = (bundle / "weights.safetensors").stat().st_size
    assert "51 parameters in 4 tensors" in printed
    assert f"weights.safetensors  {size:>20,}".split()[1] in printed
    assert "dispatches" in printed
    assert "for a batch of 7" in printed
    needed = needed_bytes(read_bundle(bundle).manifest, 7)
    for backend in ("wasm", "webgpu"):
        assert f"{needed[backend]:,} bytes of memory to train on {backend}" in printed
    assert "hidden.weight" in printed


def test_inspect_prints_the_text_of_one_kernel(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = json.loads((bundle / "manifest.json").read_text())["kernels"][0]["name"]
    assert main(["inspect", str(bundle), "--kernel", name]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"// kernel: {name}\n")
    assert "@compute" in printed
    assert printed.count("// kernel: ") == 1


def test_inspect_prints_webassembly_as_text(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = json.loads((bundle / "manifest.json").read_text())["kernels"][0]["name"]
    assert main(["inspect", str(bundle), "--kernel", name, "--target", "wasm"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"(func ${name} (param i32")
    assert "i32.load" in printed or "call $" in printed
    assert printed.endswith("\n)\n")


@pytest.mark.wasm
def test_verify_passes_for_a_bundle_and_for_a_function(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = ["--step", f"{STEP}:small"]
    assert main(["verify", str(bundle), *step, "--runner", "wasm", "--cases", "3"]) == 0
    assert main(["verify", f"{STEP}:small", "--runner", "wasm", "--cases", "2"]) == 0
    assert "3 random cases against PyTorch float64" in capsys.readouterr().out


def test_verify_says_how_to_name_a_model_that_cannot_be_imported(bundle: Path) -> None:
    command = [sys.executable, "-m", "hearth", "verify", str(bundle), "--cases", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--step FILE.py:FUNCTION" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.wasm
def test_verify_fails_for_weights_of_another_model(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", f"{STEP}:small", "--runner", "wasm", "--cases", "1"]) == 0
    broken = tmp_path / "step.py"
    broken.write_text(STEP.read_text().replace("torch.tanh", "torch.sigmoid"))
    step = ["--step", f"{broken}:small", "--cases", "1"]
    assert main(["verify", str(bundle), *step, "--runner", "wasm"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere:f"], "InvalidInputError: cannot import nowhere"),
        (["check", "small"], "does not name a function"),
        (["check", "none.py:f"], "there is no file none.py"),
        (["check", f"{STEP}:none"], "has no function 'none'"),
        (["check", f"{STEP}:wrong"], "returned int"),
        (["compile", f"{STEP}:unsupported", "-o", "x"], "UnsupportedOpError"),
        (["inspect", "nowhere"], "StorageError: nowhere is not a bundle"),
        (["inspect", "{bundle}", "--kernel", "none"], "there is no kernel 'none'"),
        (["train", "{bundle}", "--data", "none.npz"], "StorageError: cannot read none.npz"),
        (["train", "{bundle}", "--data", "digits"], "the model takes [B, 2]"),
        (["train", "{bundle}", "--data", "{points}", "--lr", "-1", "--runner", "wasm"],
         "from 0 up"),
        (["train", "{bundle}", "--data", "{points}", "--resume", "{bundle}/manifest.json",
          "--runner", "wasm"], "BundleFormatError"),
        (["serve", "nowhere"], "StorageError: nowhere is not a bundle"),
    ],
)  # fmt: skip
def test_errors_are_messages_not_tracebacks(
    arguments: list[str],
    message: str,
    bundle: Path,
    points: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [a.format(bundle=bundle, points=points) for a in arguments]
    assert main(filled) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_the_choices_of_the_command_line_are_those_of_the_driver() -> None:
    assert set(cli.RUNNERS) == set(runners.RUNNERS)
    assert cli.BACKENDS == generate.BACKENDS


def test_a_build_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "dist.build.pickle").mkdir()
    compiled = hearth.compile_function(torch.tanh, torch.zeros(2, 3), backends=["wasm"])
    with pytest.raises(hearth.StorageError, match=r"dist\.build\.pickle"):
        compiled.save(tmp_path / "dist", runtime=False)


@pytest.mark.parametrize(("inputs", "targets"), [("i8", "i8"), ("f4", "?"), ("f8", "f4")])
def test_the_page_is_not_served_data_that_it_would_misread(inputs: str, targets: str) -> None:
    split = Split(np.zeros((3, 2), inputs), np.zeros(3, targets))
    with pytest.raises(hearth.InvalidInputError, match="the page cannot take"):
        _split_files(split)
    assert _split_files(Split(np.zeros((3, 2), "f4"), np.ones(1, "i8")))["y"] == b"\1\0\0\0"


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["train"], ["inspect", "x", "--batch", "0"], ["check"]]
)
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_the_module_is_the_command_and_imports_no_torch_to_say_its_version() -> None:
    code = "import sys, hearth.cli; hearth.cli._parser(); sys.exit('torch' in sys.modules)"
    for command in (["-m", "hearth", "--version"], ["-c", code]):
        result = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr


def test_serve_serves_the_bundle_isolated_and_stops_on_interrupt(
    bundle: Path, points: Path, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<title>mine</title>")
    command = [sys.executable, "-u", "-m", "hearth", "serve", str(bundle), "--port", "0"]
    command += ["--page", str(tmp_path), "--data", str(points)]
    # A shell's background job, and what it starts, ignores the interrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with urllib.request.urlopen(f"{url}bundle/manifest.json", timeout=10) as answer:
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert json.load(answer)["format"] == "hearth-bundle"
        with urllib.request.urlopen(f"{url}data/index.json", timeout=10) as answer:
            index = json.load(answer)
        with urllib.request.urlopen(f"{url}data/{index['train']['x']}", timeout=10) as answer:
            assert len(answer.read()) == 160 * 2 * 4
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}bundle/build.pickle", timeout=10)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0

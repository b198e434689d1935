"""`hearth train`: weights that PyTorch agrees with, runs that go on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hearth
from hearth.cli import main
from tests.cli.small_step import Small


def accuracy(weights: dict[str, torch.Tensor], points: Path) -> float:
    model = Small()
    model.load_state_dict(weights)
    with np.load(points) as data:
        right = model(torch.from_numpy(data["x"])).argmax(1).numpy() == data["y"]
    return float(right.mean())


@pytest.mark.wasm
def test_train_brings_weights_back_that_pytorch_agrees_with(
    bundle: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "trained.safetensors"
    command = ["train", str(bundle), "--data", str(points), "--runner", "wasm"]
    assert main([*command, "--epochs", "8", "--batch-size", "16", "-o", str(output)]) == 0
    assert accuracy(hearth.load_weights(output), points) > 0.95
    assert "accuracy" in capsys.readouterr().err


@pytest.mark.chromium
def test_train_drives_a_real_browser(bundle: Path, points: Path, tmp_path: Path) -> None:
    output = tmp_path / "trained.safetensors"
    command = ["train", str(bundle), "--data", str(points), "--batch-size", "16", "--epochs", "8"]
    assert main([*command, "-o", str(output)]) == 0
    assert accuracy(hearth.load_weights(output), points) > 0.95


@pytest.mark.wasm
def test_a_resumed_run_goes_on_where_it_stopped(bundle: Path, points: Path, tmp_path: Path) -> None:
    command = ["train", str(bundle), "--data", str(points), "--runner", "wasm", "--epochs", "1"]
    half, end = tmp_path / "half", tmp_path / "end"
    assert main([*command, "--lr", "0.01", "--checkpoint", str(half), "-o", str(end)]) == 0
    resume = ["--resume", str(half), "--checkpoint", str(end)]
    assert main([*command, *resume, "-o", str(tmp_path / "x")]) == 0
    first, second = hearth.load_checkpoint(half), hearth.load_checkpoint(end)
    assert (first.step, second.step) == (3, 6)
    assert second.optimizer["param_groups"][0]["lr"] == 0.01
    assert second.optimizer["state"][0]["step"] == 6


@pytest.mark.wasm
def test_train_writes_json_weights_on_request(bundle: Path, points: Path, tmp_path: Path) -> None:
    output = tmp_path / "trained.json"
    command = ["train", str(bundle), "--data", str(points), "--runner", "wasm", "--epochs", "1"]
    assert main([*command, "-o", str(output)]) == 0
    weights = hearth.load_weights(output, like=Small().state_dict())
    assert weights["hidden.weight"].shape == (8, 2)


@pytest.mark.parametrize("runner", ["reference", "webgpu", "chromium:webgpu"])
def test_threads_are_refused_where_there_are_none(
    bundle: Path, points: Path, runner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(bundle), "--data", str(points), "--runner", runner]
    assert main([*command, "--threads", "2"]) == 2
    assert f"{runner} has no threads" in capsys.readouterr().err


@pytest.mark.wasm
def test_a_learning_rate_that_is_too_large_stops_with_the_step(
    bundle: Path, points: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(bundle), "--data", str(points), "--runner", "wasm"]
    assert main([*command, "--lr", "3e38"]) == 2
    assert "NumericalInstabilityError: the loss of step " in capsys.readouterr().err

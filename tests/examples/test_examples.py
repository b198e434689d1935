"""The example programs run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )


def test_the_first_example_is_short() -> None:
    assert len((ROOT / "examples" / "01_first_training.py").read_text().splitlines()) < 60


@pytest.mark.wasm
def test_the_first_example_learns_the_rings() -> None:
    result = run("examples/01_first_training.py")
    assert result.returncode == 0, result.stderr
    found = re.search(r"accuracy in PyTorch: ([\d.]+)%", result.stdout)
    assert found is not None
    assert float(found[1]) > 99


@pytest.mark.chromium
@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_the_demo_agrees_with_pytorch(model: str) -> None:
    result = run("examples/mnist_demo.py", "--model", model, "--epochs", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    browser, torch = re.findall(r"accuracy in (?:the browser|PyTorch) +([\d.]+)%", result.stdout)
    assert browser == torch
    difference = re.search(r"largest difference .*: ([\d.e+-]+)$", result.stdout, re.M)
    assert difference is not None
    assert float(difference[1]) < 1e-4

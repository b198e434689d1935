"""The size report: long files and functions are listed, only a very long file fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "check_sizes.py"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_long_function_is_reported_and_does_not_fail(repository: Path) -> None:
    (repository / "a.py").write_text("\n\ndef f():\n" + "    pass\n" * 40)
    result = run(repository)
    assert result.returncode == 0
    assert "a.py:3: f() has 41 lines (limit 40)" in result.stdout


@pytest.mark.parametrize("name", ["a.ts", "a.js", "a.mjs"])
def test_a_file_over_the_hard_limit_fails(repository: Path, name: str) -> None:
    (repository / name).write_text("//\n" * 601)
    result = run(repository)
    assert result.returncode == 1
    assert f"{name}:1: the file has 601 lines (limit 300)" in result.stdout


def test_ignored_files_are_not_counted(repository: Path) -> None:
    (repository / ".gitignore").write_text("build/\n")
    (repository / "build").mkdir()
    (repository / "build" / "a.py").write_text("#\n" * 700)
    assert run(repository).returncode == 0

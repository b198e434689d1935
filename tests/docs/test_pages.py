"""What a page of the documentation shows is what its code prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TOOL = ROOT / "tools" / "run_document.py"


def run_tool(page: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), str(page)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


@pytest.mark.wasm
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_shows_what_its_code_prints(page: Path) -> None:
    done = run_tool(page)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_shows_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    assert run_tool(page).returncode == 1

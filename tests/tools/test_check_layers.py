"""The import-direction check: the tree keeps the rule, and a planted breach is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "check_layers.py"


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_tree_keeps_the_rule() -> None:
    result = run(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("codegen/wgsl.py", "import torch\n", "codegen imports torch"),
        ("codegen/wgsl.py", "def f():\n    import torch.nn\n", "wgsl.py:2: codegen imports torch"),
        ("codegen/wgsl.py", "from ..bundle import manifest\n", "codegen imports hearth.bundle"),
        ("ir/graph.py", "from hearth.passes.fold import fold\n", "ir imports hearth.passes.fold"),
        ("ir/graph.py", "from hearth import passes\n", "ir imports hearth.passes"),
        ("lowering/dot.py", "from torch import ops\n", "lowering imports torch"),
        ("lowering/dot.py", "import hearth.capture.trace\n", "imports hearth.capture.trace"),
        ("capture/trace.py", "from hearth.steps import flat\n", "capture imports hearth.steps"),
        ("bundle/read.py", "import hearth.runtime.wasm\n", "bundle imports hearth.runtime.wasm"),
        ("runtime/wasm.py", "import hearth.build\n", "runtime imports hearth.build"),
        ("cli.py", "import requests\n", "cli imports requests"),
    ],
)
def test_a_planted_breach_is_found(tmp_path: Path, file: str, text: str, message: str) -> None:
    path = tmp_path / "hearth" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    result = run(tmp_path)
    assert result.returncode == 1
    assert message in result.stdout


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("codegen/wgsl.py", "import numpy\nfrom hearth.ir.dim import Dim\nfrom . import layout\n"),
        ("codegen/wgsl.py", "from hearth.errors import InternalError\nimport json\n"),
        ("lowering/dot.py", "from hearth.capture.graph import Node\n"),
        ("driver/build.py", "import torch\nimport hearth.codegen.wgsl\n"),
        ("__init__.py", "from hearth.errors import HearthError\n"),
    ],
)
def test_an_allowed_import_passes(tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / "hearth" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert run(tmp_path).returncode == 0

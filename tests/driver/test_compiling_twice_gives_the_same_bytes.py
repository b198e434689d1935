"""A bundle depends on the model alone: not on hash seeds, addresses, or what else was compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import hearth
from tests.architectures.training import seeded

*others, name, folder = sys.argv[1:]
for other in others:
    hearth.compile(*seeded(other))
hearth.compile(*seeded(name)).save(folder, runtime=False)
"""


def compiled(folder: Path, hash_seed: str, *names: str) -> dict[str, bytes]:
    """The files of the last of these architectures, compiled in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PROGRAM, *names, str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first = compiled(tmp_path / "first", "1", "gru")
    second = compiled(tmp_path / "second", "2", "autoencoder", "gru")
    assert {file for file in first | second if first.get(file) != second.get(file)} == set()

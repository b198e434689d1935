"""Reports long files and long functions: a reminder, and a wall only at twice the limit.

A soft limit invites a split by concept; a hard one breeds golf.  Tables may be long.

    python tools/check_sizes.py [ROOT]        exits 1 only for a file over the hard limit
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FILE_LINES = 300
HARD_FILE_LINES = 600
FUNCTION_LINES = 40
SUFFIXES = (".py", ".ts", ".js", ".mjs")


@dataclass(frozen=True)
class Long:
    path: Path
    line: int
    what: str
    lines: int
    limit: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what} has {self.lines} lines (limit {self.limit})"


def source_files(root: Path) -> list[Path]:
    """Source files that git tracks or would track."""
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths = [root / name for name in listed.splitlines()]
    return sorted(p for p in paths if p.suffix in SUFFIXES and p.is_file())


def long_parts(path: Path) -> Iterator[Long]:
    """The file itself, and its functions where it is Python."""
    text = path.read_text()
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield Long(path, 1, "the file", lines, FILE_LINES)
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                yield Long(path, node.lineno, f"{node.name}()", length, FUNCTION_LINES)


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    found = [long for path in source_files(root) for long in long_parts(path)]
    for long in found:
        print(long)
    hard = [f for f in found if f.what == "the file" and f.lines > HARD_FILE_LINES]
    print(f"check_sizes: {len(found)} over the soft limits, {len(hard)} files over the hard one")
    return 1 if hard else 0


if __name__ == "__main__":
    sys.exit(main())

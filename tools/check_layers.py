"""Checks the direction of imports between the stages of the compiler.

`LAYERS` is the whole rule: what a package of `hearth` may import from `hearth`, and which outside
packages it may know.  Everything else is reported with file, line and the allowed list.

    python tools/check_layers.py [ROOT]        exits 1 if an import breaks the rule
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Layer:
    """What one package may import: parts of hearth, and packages outside of the standard library.

    Every part may import itself and `errors`.  `capture.graph` admits one module of a part.
    """

    ours: frozenset[str]
    outside: frozenset[str]


def layer(ours: str = "", outside: str = "") -> Layer:
    return Layer(frozenset(ours.split()), frozenset(outside.split()))


# The order is the order of the pipeline.  `ir` is the language that the stages share; what leaves
# capture is plain data (`capture.graph`), so that lowering needs no torch.
LAYERS = {
    "errors": layer(),
    # What people compile, not what compiles it.
    "functions": layer(outside="torch"),
    "metrics": layer(outside="torch"),
    "ir": layer(outside="numpy"),
    "capture": layer("ir", outside="torch numpy"),
    "steps": layer("ir capture functions metrics", outside="torch numpy"),
    "lowering": layer("ir capture.graph", outside="numpy"),
    "passes": layer("ir", outside="numpy"),
    "schedule": layer("ir", outside="numpy"),
    "codegen": layer("ir", outside="numpy"),
    "bundle": layer("ir", outside="numpy"),
    "deploy": layer("bundle", outside="torch numpy onnx onnxruntime onnxscript"),
    "serve": layer(),
    # The reference device runs kernels by their NumPy meaning.
    "runtime": layer("ir bundle serve schedule.reference", "numpy wasmtime wgpu playwright"),
}
# The top level puts the stages together and may import all of them.
EVERYTHING = layer(" ".join(LAYERS), outside="torch numpy rich sklearn")


@dataclass(frozen=True)
class Breach:
    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def check(root: Path) -> list[Breach]:
    """Every import under `root`/hearth that its layer does not allow."""
    files = sorted((root / "hearth").rglob("*.py"))
    return [breach for path in files for breach in _check_file(path, root)]


def _check_file(path: Path, root: Path) -> Iterator[Breach]:
    module = path.relative_to(root).with_suffix("").parts
    part = module[1] if len(module) > 1 else ""
    rule = LAYERS.get(part, EVERYTHING)
    for line, name in _imports(ast.parse(path.read_text(), str(path)), module):
        first, *rest = name.split(".")
        if first in sys.stdlib_module_names:
            continue
        if first != "hearth":
            if first not in rule.outside:
                allowed = ", ".join(sorted(rule.outside)) or "nothing"
                yield Breach(path, line, f"{part} imports {first}; outside it may use {allowed}")
        elif rest and part in LAYERS and not _allowed(rest, rule.ours | {part, "errors"}):
            allowed = ", ".join(sorted(rule.ours | {"errors"}))
            yield Breach(path, line, f"{part} imports {name}; of hearth it may use {allowed}")


def _allowed(name: list[str], admitted: frozenset[str]) -> bool:
    """Whether `name`, without its leading hearth, is or lies in something admitted."""
    return any(".".join(name[: i + 1]) in admitted for i in range(len(name)))


def _imports(tree: ast.AST, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(module[: len(module) - node.level]) if node.level else []
            base = ".".join(package + ([node.module] if node.module else []))
            # `from hearth import bundle` imports a part just as `import hearth.bundle` does.
            deeper = base == "hearth"
            names = [f"{base}.{alias.name}" for alias in node.names] if deeper else [base]
            yield from ((node.lineno, name) for name in names)


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    breaches = check(root)
    for breach in breaches:
        print(breach)
    print(f"check_layers: {len(breaches)} imports break the rule")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

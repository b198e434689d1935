"""docs/operators.md: the support matrix, written from the claims that the tests hold true.

python -m tests.database.page
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.database.cases import BACKWARD, DIRECTIONS, FORWARD, Entry, modules, operators
from tests.database.claims import LIMITS, excluded, untested
from tests.database.outcomes import SOME, TARGETS

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
YES, NO, NONE = "✓", "–", ""

INTRODUCTION = """\
# Operators and modules

<!-- Written by `python -m tests.database.page`; edit tests/database/claims.py instead. -->

What Hearth claims of PyTorch's own test databases, `op_db` and `module_db` of torch {version}.
{yes} stands for: the float32, int64 and bool samples agree with PyTorch in float64, on the
reference interpreter and in WebAssembly, and a fixed tenth of them on WebGPU (`tests/database`;
CI takes {some} samples of each dtype at even distances, `HEARTH_ALL_SAMPLES=1` takes all).
{no} is refused with an error that names the operator and its line. Samples of types that no device
has (complex, float16, bfloat16, float64) are left out. A gradient is the one of PyTorch, with
respect to every input that it differentiates.
"""


def render() -> str:
    import torch

    version = torch.__version__.split("+")[0]
    parts = [INTRODUCTION.format(version=version, yes=YES, no=NO, some=SOME)]
    for title, entries in (("Operators", operators()), ("Modules", modules())):
        parts += [f"## {title}\n", _summary(entries), _table(entries)]
    parts += ["## Not claimed, and why\n", _reasons(), "## Limits of what is claimed\n", _limits()]
    return "\n".join(parts)


def _summary(entries: dict[str, Entry]) -> str:
    counts = Counter(
        (direction, _mark(name, entry, direction))
        for name, entry in entries.items()
        for direction in DIRECTIONS
    )
    lines = [
        f"{counts[d, YES]} of {counts[d, YES] + counts[d, NO]} are claimed {d}." for d in DIRECTIONS
    ]
    return " ".join(lines) + "\n"


def _mark(name: str, entry: Entry, direction: str) -> str:
    if name in untested() or (direction == BACKWARD and not entry.is_differentiable):
        return NONE
    return NO if name in excluded(direction) else YES


def _table(entries: dict[str, Entry]) -> str:
    targets = " ".join(TARGETS)
    lines = [f"| name | forward: {targets} | backward: {targets} |", "|---|---|---|"]
    for name, entry in sorted(entries.items()):
        marks = [" ".join([_mark(name, entry, d)] * len(TARGETS)) for d in DIRECTIONS]
        limited = " (with limits)" if name in LIMITS else ""
        lines.append(f"| {name}{limited} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def _reasons() -> str:
    def lines() -> Iterator[str]:
        found: dict[str, list[str]] = {}
        for direction in DIRECTIONS:
            for name, reason in excluded(direction).items():
                if direction == FORWARD or name not in excluded(FORWARD):
                    ending = "" if direction == FORWARD else " (gradient)"
                    found.setdefault(reason, []).append(name + ending)
        for name, reason in untested().items():
            found.setdefault(f"not tested: {reason}", []).append(name)
        for reason, names in found.items():
            yield f"- {reason}: {', '.join(sorted(names))}"

    return "\n".join(lines()) + "\n"


def _limits() -> str:
    lines = [f"- {name}: {limit.reason}" for name in sorted(LIMITS) for limit in LIMITS[name]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

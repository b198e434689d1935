"""What becomes of the samples of one operator or module on one target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import torch

from hearth.errors import (
    CaptureError,
    InvalidInputError,
    UnsupportableError,
    UnsupportedOpError,
)
from tests.database.cases import Case, Entry
from tests.database.judge import Expected, exact, expect, near
from tests.database.targets import Arrays, chunks, on_device, on_reference

REFERENCE = "reference"
TARGETS = (REFERENCE, "wasm", "webgpu")
PROGRAMS_PER_BUNDLE = 48
SOME = 3  # samples of each dtype; there are 50,000 in all
REFUSALS = (CaptureError, UnsupportedOpError, UnsupportableError, InvalidInputError)


@dataclass(frozen=True)
class Outcome:
    """`problem` is None where the sample passes; a refusal is an error that says what to do."""

    label: str
    problem: str | None
    is_refusal: bool = False


@dataclass(frozen=True)
class Judged:
    """A case that a device could run, with what PyTorch makes of it."""

    case: Case
    expected: Expected


def drawn(entry: Entry, direction: str, most: int | None = None) -> list[Judged]:
    """The samples, or `most` of each dtype at even distances; foreign types are left out."""
    judged = []
    for case in _some(entry.cases(direction), most):
        expected = expect(case)
        if expected is not None and expected.wide:  # some samples have no tensor to compare
            judged.append(Judged(case, expected))
    return judged


def _some(cases: Sequence[Case], most: int | None) -> Iterator[Case]:
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.label.split(" ")[0], []).append(case)
    for group in groups.values():
        count = len(group) if most is None else min(most, len(group))
        yield from (group[i * len(group) // count] for i in range(count))


def is_in_tenth(name: str, case: Case) -> bool:
    """A fixed tenth of all samples, as if drawn at random."""
    return crc32(f"{name} {case.label}".encode()) % 10 == 0


def outcomes(judged: Sequence[Judged], target: str) -> list[Outcome]:
    if target == REFERENCE:
        return [_on_reference(j) for j in judged]
    found: list[Outcome] = []
    with TemporaryDirectory(prefix="hearth-database-") as folder:
        for k, group in enumerate(chunks(judged, PROGRAMS_PER_BUNDLE)):
            cases = {name: j.case for name, j in group.items()}
            results = on_device(target, cases, Path(folder) / f"{k}")
            found += [_judged(group[name], results[name]) for name in group]
    return found


def _on_reference(judged: Judged) -> Outcome:
    """The graph that devices run; or, where the case has constants of its dtype, float64's."""
    problem: str | None = None
    for dtype in (torch.float32, torch.float64):
        try:
            problem = exact(on_reference(judged.case, dtype), judged.expected)
        except Exception as error:
            return _failed(judged.case, error)
        if problem is None:
            break
    return Outcome(judged.case.label, problem)


def _judged(judged: Judged, result: Arrays | Exception) -> Outcome:
    if isinstance(result, Exception):
        return _failed(judged.case, result)
    return Outcome(judged.case.label, near(result, judged.expected))


def _failed(case: Case, error: Exception) -> Outcome:
    return Outcome(case.label, f"{type(error).__name__}: {error}", isinstance(error, REFUSALS))

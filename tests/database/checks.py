"""What the suite asks of an operator or module: it works as claimed, or is refused in words."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.database.cases import FORWARD, Entry, modules, operators
from tests.database.claims import LIMITS, excluded, untested
from tests.database.outcomes import REFERENCE, SOME, Judged, Outcome, drawn, is_in_tenth, outcomes

MOST = None if os.environ.get("HEARTH_ALL_SAMPLES") else SOME


def entries() -> dict[str, Entry]:
    return {**operators(), **modules()}


@contextmanager
def quiet() -> Iterator[None]:
    """PyTorch warns of what its own samples do."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def names(kind: Callable[[], dict[str, Entry]], direction: str, *, claimed: bool) -> list[str]:
    """Of everything of a kind that can be tested."""
    return [
        name
        for name, entry in kind().items()
        if name not in untested()
        and (direction == FORWARD or entry.is_differentiable)
        and (name not in excluded(direction)) == claimed
    ]


def check_works(name: str, direction: str) -> None:
    with quiet():
        judged = drawn(entries()[name], direction, MOST)
        for target in (REFERENCE, "wasm"):
            found = outcomes(judged, target)
            problems = _unexpected(name, found)
            assert not problems, f"on {target}:\n" + "\n".join(problems)
            assert any(o.problem is None for o in found), f"no sample of {name} passes"


def check_tenth_on_webgpu(direction: str, some: Sequence[str]) -> None:
    with quiet():
        chosen: list[tuple[str, Judged]] = [
            (name, judged)
            for name in some
            for judged in drawn(entries()[name], direction, MOST)
            if is_in_tenth(name, judged.case)
        ]
        found = outcomes([judged for _, judged in chosen], "webgpu")
    problems = [
        problem
        for (name, _), outcome in zip(chosen, found, strict=True)
        for problem in _unexpected(name, [outcome])
    ]
    assert not problems, "\n".join(problems)


def check_refused(name: str, direction: str) -> None:
    """Nothing wrong is computed, and something is refused: else it belongs among the claims."""
    with quiet():
        found = outcomes(drawn(entries()[name], direction, MOST), REFERENCE)
    wrong = [f"{o.label}: {o.problem}" for o in found if o.problem and not o.is_refusal]
    assert not wrong, "\n".join(wrong)
    works = found and all(o.problem is None for o in found)
    assert not works, f"{name} works: take it off the list in claims.py"


def _unexpected(name: str, found: Sequence[Outcome]) -> list[str]:
    return [
        f"{name}, {o.label}: {o.problem}"
        for o in found
        if o.problem is not None and not _is_within_limits(name, o)
    ]


def _is_within_limits(name: str, outcome: Outcome) -> bool:
    words = [limit.words for limit in LIMITS.get(name, ())]
    return outcome.is_refusal and any(w in str(outcome.problem) for w in words)

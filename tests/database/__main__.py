"""What fails, for whoever adds operators.

    python -m tests.database [--target wasm] [--most 8] [--direction forward] NAME...

NAME is an operator ("div.floor_rounding") or a module ("nn.Linear"); a trailing * stands for any
ending.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from tests.database.cases import BACKWARD, DIRECTIONS, Entry, modules, operators
from tests.database.outcomes import REFERENCE, TARGETS, Outcome, drawn, outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.database", description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--direction", choices=DIRECTIONS, action="append")
    parser.add_argument("--most", type=int)
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    failed = 0
    for name, entry in _chosen(options.names):
        for direction in options.direction or DIRECTIONS:
            if direction == BACKWARD and not entry.is_differentiable:
                continue
            start = time.perf_counter()
            judged = drawn(entry, direction, options.most)
            for target in options.target or (REFERENCE,):
                problems = [o for o in outcomes(judged, target) if o.problem]
                failed += bool(problems)
                took = time.perf_counter() - start
                print(f"{name} {direction} {target}: {len(judged) - len(problems)} of "
                      f"{len(judged)} in {took:.1f} s", *_summary(problems), sep="\n    ",
                      flush=True)  # fmt: skip
    return 1 if failed else 0


def _chosen(names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    for name, entry in {**operators(), **modules()}.items():
        if any(fnmatchcase(name, pattern) for pattern in names):
            yield name, entry


def _summary(problems: Sequence[Outcome]) -> list[str]:
    counts = Counter(str(o.problem).replace("\n", " |")[:400] for o in problems)
    first = {str(o.problem).replace("\n", " |")[:400]: o.label for o in reversed(problems)}
    return [f"{n} x [{first[text]}] {text}" for text, n in counts.most_common(6)]


if __name__ == "__main__":
    sys.exit(main())

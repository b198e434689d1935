"""Interleaved rounds: every peer takes its turn in each, so that all meet the same machine."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from bench.browser import Rig
from bench.peers import Peer, Session
from bench.prepare import Case

Row = dict[str, Any]

# The losses of the first steps may deviate by this much from PyTorch in float64, relative.  A
# float32 rounding error is 1e-7; a wrong or missing gradient moves the second loss by over 1e-2.
DEVIATION: Final = 1e-3
# Adam magnifies the rounding of a deep model: there PyTorch's own float32 is the measure.
NATIVE: Final = "torch eager 1T"
TIMES_NATIVE: Final = 2.0
# The workload that predicts while it trains, too.
PREDICTING: Final = "lenet5"


def measure(case: Case, peers: Sequence[Peer], *, rounds: int, seconds: float,
            limit_s: float) -> tuple[dict[str, Row], str]:  # fmt: skip
    """The row of each peer, and the browser's version; no round begins after `limit_s`."""
    rows: dict[str, Row] = {}
    sessions: dict[str, Session] = {}
    with ExitStack() as closing:
        rig = closing.enter_context(Rig())
        for peer in peers:
            row: Row = {}
            rows[peer.name] = row
            try:
                session = peer.open(case, rig)
                closing.callback(session.close)
                row |= check(session.losses(), case.losses())
            except Exception as error:
                row["error"] = first_line(error)
                continue
            sessions[peer.name] = session
        allow_rounding(rows)
        times = time_all(sessions, rounds, seconds, time.monotonic() + limit_s)
        for name, session in sessions.items():
            rows[name] |= summary(times[name]) | session.facts() | latency(session)
            if case.workload.name == PREDICTING:
                rows[name] |= live_predictions(session)
        return rows, rig.browser.version


def time_all(sessions: dict[str, Session], rounds: int, seconds: float,
             deadline: float) -> dict[str, list[list[float]]]:  # fmt: skip
    """Milliseconds per step of each round, after one round that only warms up."""
    times: dict[str, list[list[float]]] = {name: [] for name in sessions}
    gc.collect()
    gc.disable()
    for number in range(rounds + 1):
        start = time.monotonic()
        for name, session in sessions.items():
            found = session.times_ms(seconds)
            if number > 0:
                times[name].append(found)
        now = time.monotonic()
        if number > 0 and now + (now - start) > deadline:
            break
    gc.enable()
    return times


def latency(session: Session) -> Row:
    """The median time of a prediction for one sample; last, since it takes memory of its own."""
    session.predictions_ms(0.3)  # until it is compiled well
    found = session.predictions_ms(0.5)
    return {"predict_ms": statistics.median(found)} if found else {}


def live_predictions(session: Session) -> Row:
    """How many predictions for one sample a second while training goes on."""
    live = session.live(1.0)
    if not live["times"]:
        return {}
    return {
        "live": {
            "predictions_per_s": 1e3 * len(live["times"]) / sum(live["times"]),
            "longest_ms": max(live["times"]),
            "steps": live["steps"],
        }
    }


def check(losses: Sequence[float], expected: Sequence[float]) -> Row:
    """Whether the first losses agree with PyTorch in float64."""
    pairs = zip(losses, expected, strict=True)
    deviations = [abs(ours - theirs) / abs(theirs) for ours, theirs in pairs]
    if not all(map(math.isfinite, deviations)):  # `max` would pass over a NaN
        return {"deviation": None, "agrees": False}
    return {"deviation": max(deviations), "agrees": max(deviations) <= DEVIATION}


def allow_rounding(rows: dict[str, Row]) -> None:
    """Losses agree, too, that deviate at most twice as much as those of PyTorch in float32."""
    native = rows.get(NATIVE, {}).get("deviation")
    for row in rows.values():
        deviation = row.get("deviation")
        if native is not None and deviation is not None:
            row["agrees"] = row["agrees"] or deviation <= TIMES_NATIVE * native


def summary(rounds: Sequence[Sequence[float]]) -> Row:
    """Median and best over rounds of a round's median time per step."""
    medians = [statistics.median(times) for times in rounds]
    return {
        "ms": statistics.median(medians),
        "best_ms": min(medians),
        "rounds": len(rounds),
        "steps": sum(map(len, rounds)),
    }


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:200]

"""One run as a table for the terminal: times, ratios, and whether the losses agree."""

from __future__ import annotations

from bench.kept import BASELINES, Run, comparable, ratio
from bench.measure import Row
from bench.prepare import Case

COLUMNS = ("ms/step", "best", "samples/s", "ratio", "deviation", "first step", "code", "memory")


def table(case: Case, device: str, run: Run) -> str:
    """Times are medians of interleaved rounds; ratios are of this run, to the device's baseline."""
    to = BASELINES[device]
    lines = [f"\n{case.workload.title}, batch {case.rows}; ratios to {to}"]
    lines.append(f"{'':18s}" + "".join(f"{column:>12s}" for column in COLUMNS))
    for name, row in run["rows"].items():
        if "error" in row:
            lines.append(f"{name:18s}  {row['error']}")
        else:
            cells = cells_of(row, ratio(run, name, to), case.rows)
            lines.append(f"{name:18s}" + "".join(f"{cell:>12s}" for cell in cells))
    return "\n".join(lines)


def cells_of(row: Row, relative: float | None, rows: int) -> list[str]:
    mark = "" if comparable(row) is not None else " DIFFERS"
    deviation = row["deviation"]
    return [
        f"{row['ms']:.3f}",
        f"{row['best_ms']:.3f}",
        f"{rows / row['ms'] * 1e3:,.0f}",
        "–" if relative is None else f"{relative:.2f}×",
        ("no number" if deviation is None else f"{deviation:.0e}") + mark,
        shown(row.get("first_step_ms"), 1, "ms"),
        shown(row.get("code_bytes"), 1024, "KiB"),
        shown(row.get("memory_bytes"), 2**20, "MiB"),
    ]


def shown(value: float | None, unit: int, name: str) -> str:
    return "–" if value is None else f"{value / unit:,.0f} {name}"

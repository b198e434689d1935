"""Progress on the terminal: one bar for training, one for counting; plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "")


@contextmanager
def counter(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar; the function it gives sets how many of `total` are done."""
    with _bar() as bar:
        task = bar.add_task(text, total=total, loss="")
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def training_bar(steps: int) -> Iterator[Callable[[str, int, float], None]]:
    """A bar with loss, steps per second and remaining time; call it with (text, step, loss)."""
    with _bar() as bar:
        task = bar.add_task("training", total=steps, loss="")

        def update(text: str, step: int, loss: float) -> None:
            bar.update(task, description=text, completed=step, loss=f"loss {loss:.4f}")

        yield update


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )

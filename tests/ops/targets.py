"""What runs a lowered sample; each target adds one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hearth.ir.graph import Graph
from hearth.ir.reference import run

Array = Any


@dataclass(frozen=True)
class Target:
    """`run(graph, feeds, batch)` gives the outputs by name; `epsilon` bounds one rounding."""

    name: str
    epsilon: float
    run: Callable[[Graph, Mapping[str, Array], int], dict[str, Array]]


TARGETS = {
    target.name: target
    for target in [
        Target("reference", 2.0**-52, lambda g, feeds, batch: run(g, feeds, batch, np.float64)),
    ]
}

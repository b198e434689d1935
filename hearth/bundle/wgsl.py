"""`kernels.wgsl`: one module per kernel, and how many workgroups each runs on."""

from __future__ import annotations

import math
from typing import Final

from hearth.bundle.manifest import Kernel

MARKER: Final = "// kernel: "


def split_modules(text: str) -> dict[str, str]:
    """The modules by kernel name; a line `// kernel: NAME` begins each."""
    parts = ("\n" + text).split("\n" + MARKER)[1:]
    return {p.split("\n", 1)[0].strip(): (MARKER + p).rstrip() + "\n" for p in parts}


def workgroup_count(kernel: Kernel, batch: int) -> int:
    """How many workgroups a kernel is dispatched with for a batch size."""
    return math.prod(-(-factor.extent.at(batch) // factor.per) for factor in kernel.workgroups)

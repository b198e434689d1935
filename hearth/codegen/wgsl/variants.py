"""The variants in which kernels are written, for devices that differ.

What is right for most GPUs is `GENERAL`, and every kernel has it.  A bundle has another variant of
a kernel where its text differs; a runtime takes one by what the adapter is, or by measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    features: tuple[Literal["subgroups"], ...] = ()  # of WebGPU, that the modules need
    is_for_software: bool = False  # few threads with much to do each, no workgroup memory
    has_small_tiles: bool = False  # where registers are few
    has_subgroup_sums: bool = False  # threads that share a sum exchange it by shuffles
    least_workgroups: int = 0  # long sums are split until there are as many


GENERAL = Variant("general")
# In the order in which a runtime prefers them where nothing was measured.
VARIANTS = (
    Variant("quads", ("subgroups",), is_for_software=True),
    Variant("software", is_for_software=True),
    Variant("small-tiles", has_small_tiles=True),
    Variant("subgroups", ("subgroups",), has_subgroup_sums=True),
    Variant("split", least_workgroups=96),
    Variant("split-wide", least_workgroups=512),
)

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
    features: tuple[Literal["subgroups", "shader-f16"], ...] = ()  # that the modules need
    is_for_software: bool = False  # few threads with much to do each, no workgroup memory
    has_small_tiles: bool = False  # where registers are few
    has_subgroup_sums: bool = False  # threads that share a sum exchange it by shuffles
    least_workgroups: int = 0  # long sums are split until there are as many
    has_halves: bool = False  # float16 numbers take two bytes in memory


GENERAL = Variant("general")
# For the kernels that touch float16 numbers: memory is laid out otherwise, so it is all or none.
HALVES = Variant("halves", ("shader-f16",), has_halves=True)
# In the order in which a runtime prefers them where nothing was measured.
VARIANTS = (
    Variant("quads", ("subgroups",), is_for_software=True),
    Variant("software", is_for_software=True),
    Variant("small-tiles", has_small_tiles=True),
    Variant("subgroups", ("subgroups",), has_subgroup_sums=True),
    Variant("split", least_workgroups=96),
    Variant("split-wide", least_workgroups=512),
)

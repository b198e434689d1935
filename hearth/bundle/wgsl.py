"""`kernels.wgsl`: one module per kernel, and how many workgroups each runs on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hearth.bundle.manifest import WgslHalves, WgslVariant, Workgroups
from hearth.bundle.read import Bundle
from hearth.errors import BackendError
from hearth.ir.dim import Dim

MARKER: Final = "// kernel: "
FINISH: Final = ".finish"  # after the name of a kernel: its second phase
GENERAL: Final = "general"  # what every kernel has
NOTHING: Final = Dim()


@dataclass(frozen=True, slots=True)
class Phase:
    """One dispatch; None where the file lacks the module."""

    source: str | None
    workgroups: tuple[Workgroups, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a kernel runs: its phases, and the memory that they bind after its buffers."""

    phases: tuple[Phase, ...]
    scratch_bytes: Dim = NOTHING

    @property
    def has_scratch(self) -> bool:
        return len(self.phases) > 1


HALVES: Final = "halves"  # for memory in which float16 numbers take two bytes


def split_modules(text: str) -> dict[str, str]:
    """The modules by name; a line `// kernel: NAME` begins each."""
    parts = ("\n" + text).split("\n" + MARKER)[1:]
    return {p.split("\n", 1)[0].strip(): (MARKER + p).rstrip() + "\n" for p in parts}


def workgroup_count(workgroups: Iterable[Workgroups], batch: int) -> int:
    """How many workgroups a kernel is dispatched with for a batch size."""
    return math.prod(-(-factor.extent.at(batch) // factor.per) for factor in workgroups)


def launches_of(bundle: Bundle, variant: str = GENERAL) -> dict[str, Launch]:
    """How every kernel runs in a variant, or in general where the variant has none, by name."""
    manifest = bundle.manifest
    if manifest.wgsl is None:
        raise BackendError(
            f"{bundle.path} was compiled without WebGPU",
            remedy='compile it with backends=("webgpu", "wasm")',
        )
    modules = split_modules(bundle.file(manifest.wgsl.file).decode())
    launches = {
        kernel.name: Launch((Phase(modules.get(kernel.name), kernel.workgroups),))
        for kernel in manifest.kernels
    }
    if variant == GENERAL:
        return launches
    known: dict[str, WgslVariant | WgslHalves] = {v.name: v for v in manifest.wgsl.variants or ()}
    if manifest.wgsl.halves:
        known[HALVES] = manifest.wgsl.halves
    if variant not in known:
        raise BackendError(
            f"{bundle.path} has no kernels called {variant!r}",
            remedy=f"take one of {', '.join((GENERAL, *known))}",
        )
    return launches | _own_launches(bundle, known[variant])


def _own_launches(bundle: Bundle, variant: WgslVariant | WgslHalves) -> dict[str, Launch]:
    second = (variant.finish or {}) if isinstance(variant, WgslVariant) else {}
    modules = split_modules(bundle.file(variant.file).decode())
    launches = {}
    for name, workgroups in variant.workgroups.items():
        first = Phase(modules.get(name), workgroups)
        launches[name] = Launch((first,))
        if finish := second.get(name):
            last = Phase(modules.get(name + FINISH), finish.workgroups)
            launches[name] = Launch((first, last), finish.scratch_bytes)
    return launches

"""`kernels.wgsl`: one module per kernel, and how many workgroups each runs on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from hearth.bundle.manifest import Workgroups
from hearth.bundle.read import Bundle
from hearth.errors import BackendError

MARKER: Final = "// kernel: "
GENERAL: Final = "general"  # what every kernel has


def split_modules(text: str) -> dict[str, str]:
    """The modules by kernel name; a line `// kernel: NAME` begins each."""
    parts = ("\n" + text).split("\n" + MARKER)[1:]
    return {p.split("\n", 1)[0].strip(): (MARKER + p).rstrip() + "\n" for p in parts}


def workgroup_count(workgroups: Iterable[Workgroups], batch: int) -> int:
    """How many workgroups a kernel is dispatched with for a batch size."""
    return math.prod(-(-factor.extent.at(batch) // factor.per) for factor in workgroups)


def modules_of(
    bundle: Bundle, variant: str = GENERAL
) -> tuple[dict[str, str], dict[str, tuple[Workgroups, ...]]]:
    """The modules of a variant, general ones where it has none, and their workgroups, by kernel."""
    manifest = bundle.manifest
    if manifest.wgsl is None:
        raise BackendError(
            f"{bundle.path} was compiled without WebGPU",
            remedy='compile it with backends=("webgpu", "wasm")',
        )
    modules = split_modules(bundle.file(manifest.wgsl.file).decode())
    workgroups = {kernel.name: kernel.workgroups for kernel in manifest.kernels}
    if variant == GENERAL:
        return modules, workgroups
    known = {v.name: v for v in manifest.wgsl.variants or ()}
    if variant not in known:
        raise BackendError(
            f"{bundle.path} has no kernels called {variant!r}",
            remedy=f"take one of {', '.join((GENERAL, *known))}",
        )
    chosen = known[variant]
    own = split_modules(bundle.file(chosen.file).decode())
    return modules | own, workgroups | chosen.workgroups

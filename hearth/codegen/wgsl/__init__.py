"""Kernels as WGSL modules, for WebGPU.

`emit_kernel` turns one kernel into one readable module, in the variant that a runtime asks for.  It
knows nothing of bundles, devices or other kernels; `spec/manifest.md` says how a runtime binds and
dispatches what comes out, and which variant it takes.
"""

from __future__ import annotations

from dataclasses import replace

from hearth.codegen.scatter import find_scatter
from hearth.codegen.wgsl.choose import (
    Template,
    choose_for_software,
    choose_split,
    choose_template,
    emit_template,
)
from hearth.codegen.wgsl.contraction import Contraction, contraction_of
from hearth.codegen.wgsl.layout import ENOUGH_IN_SOFTWARE, ENOUGH_THREADS
from hearth.codegen.wgsl.loops import emit_loops
from hearth.codegen.wgsl.module import Phase, WgslKernel
from hearth.codegen.wgsl.rewrite import merge_axes, spell
from hearth.codegen.wgsl.scatter import emit_scatter
from hearth.codegen.wgsl.variants import GENERAL, HALVES, VARIANTS, Variant
from hearth.ir.kernel import Kernel

__all__ = ["HALVES", "VARIANTS", "Phase", "Variant", "WgslKernel", "emit_kernel"]


def emit_kernel(kernel: Kernel, variant: Variant = GENERAL) -> WgslKernel:
    """The module of a kernel, and how many workgroups it runs on."""
    kernel = spell(kernel if variant.has_halves else _widened(kernel))
    enough = ENOUGH_IN_SOFTWARE if variant.is_for_software else ENOUGH_THREADS
    scatter = find_scatter(kernel)
    if scatter is not None:
        return emit_scatter(kernel, scatter, enough)
    contraction = contraction_of(kernel)
    template = _template(contraction, variant) if contraction else None
    if contraction is None or template is None:
        return emit_loops(merge_axes(kernel), enough, has_subgroups=variant.has_subgroup_sums)
    return emit_template(contraction, template)


def _widened(kernel: Kernel) -> Kernel:
    """The kernel for memory in which every element takes four bytes."""
    return replace(kernel, params=tuple(replace(p, is_half=False) for p in kernel.params))


def _template(contraction: Contraction, variant: Variant) -> Template | None:
    if variant.least_workgroups:
        split = choose_split(contraction, variant.least_workgroups)
        return split or choose_template(contraction)
    if variant.is_for_software:
        return choose_for_software(contraction, has_quads="subgroups" in variant.features)
    return choose_template(contraction, small=variant.has_small_tiles)

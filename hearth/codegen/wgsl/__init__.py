"""Kernels as WGSL modules, for WebGPU.

`emit_kernel` turns one kernel into one readable module.  It knows nothing of bundles, devices or
other kernels; `spec/manifest.md` says how a runtime binds and dispatches what comes out.
"""

from __future__ import annotations

from hearth.codegen.wgsl.choose import choose_template
from hearth.codegen.wgsl.contraction import contraction_of
from hearth.codegen.wgsl.loops import emit_loops
from hearth.codegen.wgsl.module import WgslKernel
from hearth.codegen.wgsl.rewrite import merge_axes, spell
from hearth.codegen.wgsl.shared_sum import emit_shared_sum
from hearth.codegen.wgsl.tiles import Tile, emit_tiles
from hearth.ir.kernel import Kernel

__all__ = ["WgslKernel", "emit_kernel"]


def emit_kernel(kernel: Kernel) -> WgslKernel:
    """The module of a kernel, and how many workgroups it runs on."""
    kernel = spell(kernel)
    contraction = contraction_of(kernel)
    template = choose_template(contraction) if contraction else None
    if contraction is None or template is None:
        return emit_loops(merge_axes(kernel))
    if isinstance(template, Tile):
        return emit_tiles(contraction, template)
    return emit_shared_sum(contraction, template)

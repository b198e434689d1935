"""Kernels as WGSL modules, for WebGPU.

`emit_kernel` turns one kernel into one readable module.  It knows nothing of bundles, devices or
other kernels; `spec/manifest.md` says how a runtime binds and dispatches what comes out.
"""

from __future__ import annotations

from hearth.codegen.wgsl.loops import emit_loops
from hearth.codegen.wgsl.module import WgslKernel
from hearth.codegen.wgsl.rewrite import merge_axes, spell
from hearth.ir.kernel import Kernel

__all__ = ["WgslKernel", "emit_kernel"]


def emit_kernel(kernel: Kernel) -> WgslKernel:
    """The module of a kernel, and how many workgroups it runs on."""
    return emit_loops(merge_axes(spell(kernel)))

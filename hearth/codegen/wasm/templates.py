"""Which kernels have a faster way than loops."""

from __future__ import annotations

from hearth.codegen.scatter import find_scatter
from hearth.codegen.wasm.conv_methods import conv_function
from hearth.codegen.wasm.epilogue import has_epilogue_only
from hearth.codegen.wasm.gemm import gemm_function
from hearth.codegen.wasm.kernels import KernelFunction, Target, loop_function
from hearth.codegen.wasm.scatter import scatter_function
from hearth.ir.kernel import ConvTemplate, DotTemplate, Kernel


def kernel_function(target: Target, kernel: Kernel) -> KernelFunction:
    """A kernel with a template that this target knows goes there; every other becomes loops."""
    if not has_epilogue_only(kernel):
        return loop_function(target, kernel)
    scatter = find_scatter(kernel)
    if scatter is not None:
        return scatter_function(target, kernel, scatter)
    if is_never_empty(kernel):
        match kernel.template:
            case DotTemplate() as template:
                return gemm_function(target, kernel, template)
            case ConvTemplate() as template if template.spec.rank <= 2:
                return conv_function(target, kernel, template)
            case _:  # none, or three dimensions
                pass
    return loop_function(target, kernel)


def is_never_empty(kernel: Kernel) -> bool:
    """Whether all loops run for every batch size (B - 1 may be none), as the tiles assume."""
    return all(extent.is_at_least(1) for extent in (*kernel.axes, *kernel.stages[0].axes))

"""A kernel's whole WGSL module: header, bindings, library functions, `main`.

Bindings follow spec/manifest.md: group 0 holds one array per parameter, group 1 the batch size.
The text depends on what the kernel computes alone, so kernels of equal text are one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wgsl.body import INDENT, Body
from hearth.codegen.wgsl.library import functions
from hearth.codegen.wgsl.spelling import STORED_TYPES
from hearth.codegen.wgsl.term import Term
from hearth.ir.dim import Dim, Shape
from hearth.ir.kernel import Accumulate, Kernel, Stage

# The limits of WebGPU that every device has.
MAX_BINDINGS = 8
MAX_THREADS = 256
MAX_WORKGROUP_BYTES = 16384

Workgroups = tuple[tuple[Dim, int], ...]


@dataclass(frozen=True)
class Phase:
    """A module with the entry point `main`, for the product of ceil(extent / per) workgroups."""

    source: str
    workgroups: Workgroups


@dataclass(frozen=True)
class Finish(Phase):
    """A second phase, that finishes what the first left in scratch memory.

    Both bind that memory after the parameters of the kernel.
    """

    scratch_bytes: Dim


@dataclass(frozen=True)
class WgslKernel(Phase):
    """A kernel: its only phase, or the first of two."""

    finish: Finish | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is dispatched, in order."""
        return (self, self.finish) if self.finish else (self,)


def assemble(
    kernel: Kernel, body: Body, threads: int, workgroups: Workgroups, method: str
) -> WgslKernel:
    assert threads <= MAX_THREADS, kernel.name
    assert len(body.params) <= MAX_BINDINGS, kernel.name
    sections = [
        "\n".join(
            [*_header(kernel, method), *(f"enable {feature};" for feature in _enabled(body))]
        ),
        "\n".join([*_bindings(body), *_workgroup_memory(body)]),
        *functions(body.functions),
        "\n".join(
            [*_main(threads, body.needs_subgroups), *(INDENT + line for line in body.lines), "}"]
        ),
    ]
    return WgslKernel("\n\n".join(sections) + "\n", workgroups)


def _enabled(body: Body) -> list[str]:
    has_halves = any(param.is_half for param in body.params)
    return ["f16"] * has_halves + ["subgroups"] * body.needs_subgroups


def workgroup_index(body: Body, workgroups: Workgroups) -> Term:
    """The linear index of this workgroup; surplus workgroups of the last row of the grid return."""
    body.line("let workgroup = group.y * groups.x + group.x;")
    counts = [ceil_div(body, extent, per).text for extent, per in workgroups]
    count = " * ".join(c for c in counts if c != "1u") or "1u"
    body.line(f"if (workgroup >= {count}) {{ return; }}")
    return Term("workgroup")


def ceil_div(body: Body, extent: Dim, per: int) -> Term:
    if extent.is_static:
        return Term(f"{-(-extent.static // per)}u")
    size = body.dim(extent)
    return size if per == 1 else body.let(Term(f"({size.text} + {per - 1}u) / {per}u"), "size")


def _header(kernel: Kernel, method: str) -> list[str]:
    stages = [f"//   {_describe(stage)}" for stage in kernel.stages]
    return [
        f"// For every point of {_shape(kernel.axes)}, {method}:",
        *stages,
    ]


def _describe(stage: Stage) -> str:
    if isinstance(stage, Accumulate):
        kinds = ", ".join(r.kind for r in stage.reductions)
        return f"{kinds} over {_shape(stage.axes)}"
    over = f", over {_shape(stage.axes)}" if stage.axes else ""
    return f"write p{stage.param}{over}"


def _shape(shape: Shape) -> str:
    return f"[{', '.join(str(e) for e in shape)}]"


def _bindings(body: Body) -> list[str]:
    lines = []
    for i, param in enumerate(body.params):
        element = "f16" if param.is_half else STORED_TYPES[param.dtype]
        element = f"vec4<{element}>" if i in body.vectors else element
        lines.append(f"@group(0) @binding({i}) var<storage, read_write> p{i}: array<{element}>;")
    return [*lines, "@group(1) @binding(0) var<uniform> batch: vec4<u32>;"]


def _workgroup_memory(body: Body) -> list[str]:
    arrays = body.workgroup_arrays.items()
    used = sum(count * (16 if element.startswith("vec4") else 4) for _, (element, count) in arrays)
    assert used <= MAX_WORKGROUP_BYTES
    return [f"var<workgroup> {name}: array<{e}, {count}>;" for name, (e, count) in arrays]


def _main(threads: int, has_subgroups: bool) -> list[str]:
    names = {"subgroup_invocation_id": "subgroup_thread", "subgroup_size": "subgroup_size"}
    more = [f"  @builtin({builtin}) {name}: u32," for builtin, name in names.items()]
    return [
        f"@compute @workgroup_size({threads})",
        "fn main(",
        "  @builtin(workgroup_id) group: vec3<u32>,",
        "  @builtin(num_workgroups) groups: vec3<u32>,",
        "  @builtin(local_invocation_index) thread: u32,",
        *(more if has_subgroups else []),
        ") {",
        "  let B = batch.x;",
    ]

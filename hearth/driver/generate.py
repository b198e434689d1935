"""Code for every requested backend: the files, and what the manifest says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hearth.bundle.manifest import (
    Accuracy,
    Finish,
    Wasm,
    WasmFeature,
    WasmVariant,
    Wgsl,
    WgslHalves,
    WgslVariant,
    Workgroups,
)
from hearth.bundle.wgsl import FINISH, MARKER
from hearth.codegen.wasm import METHODS, Features, emit_modules
from hearth.codegen.wasm.conv_methods import choice_of
from hearth.codegen.wgsl import HALVES, VARIANTS, Phase, WgslKernel, emit_kernel
from hearth.driver.assemble import Assembly
from hearth.errors import InvalidInputError
from hearth.ir.kernel import Kernel

BACKENDS = ("webgpu", "wasm")
WGSL_FILE = "kernels.wgsl"
HALVES_FILE = "kernels.halves.wgsl"

WasmVariants = Mapping[str, tuple[WasmFeature, ...]]

# In the order of preference: a runtime takes the first whose features it has.
WASM_VARIANTS: WasmVariants = {
    "program.relaxed.threads.wasm": ("simd128", "relaxed-simd", "threads"),
    "program.threads.wasm": ("simd128", "threads"),
    "program.relaxed.wasm": ("simd128", "relaxed-simd"),
    "program.wasm": ("simd128",),
}


@dataclass(frozen=True)
class Generated:
    files: dict[str, bytes]
    workgroups: tuple[tuple[Workgroups, ...], ...]  # per kernel; empty without WebGPU
    wasm: Wasm | None
    wgsl: Wgsl | None
    accuracy: Accuracy | None  # that the code keeps; None is strict, and readable to every runtime


def check_backends(backends: Sequence[str]) -> None:
    unknown = [b for b in backends if b not in BACKENDS]
    if unknown or not backends or isinstance(backends, str):
        raise InvalidInputError(
            f"backends is {backends!r}", remedy=f"pass one or more of {', '.join(BACKENDS)}"
        )


def check_accuracy(accuracy: str) -> None:
    if accuracy not in METHODS:
        raise InvalidInputError(
            f"accuracy is {accuracy!r}", remedy=f"pass one of {', '.join(METHODS)}"
        )


def generate(
    assembly: Assembly,
    backends: Sequence[str],
    accuracy: Accuracy,
    wasm_variants: WasmVariants = WASM_VARIANTS,
) -> Generated:
    files: dict[str, bytes] = {}
    workgroups: tuple[tuple[Workgroups, ...], ...] = ((),) * len(assembly.kernels)
    wasm = wgsl = None
    if "wasm" in backends:
        wasm = _generate_wasm(assembly, accuracy, wasm_variants, files)
    if "webgpu" in backends:
        wgsl, workgroups = _generate_wgsl(assembly, files)
    return Generated(files, workgroups, wasm, wgsl, _kept(assembly, backends, accuracy))


def _kept(assembly: Assembly, backends: Sequence[str], accuracy: Accuracy) -> Accuracy | None:
    """What may trade accuracy for speed does so only where the shapes gain by it."""
    fast, strict = (
        [choice_of(kernel, METHODS[a]) for kernel in assembly.kernels] for a in (accuracy, "strict")
    )
    return accuracy if "wasm" in backends and fast != strict else None


def _generate_wasm(
    assembly: Assembly, accuracy: Accuracy, wasm_variants: WasmVariants, files: dict[str, bytes]
) -> Wasm:
    calls = {name: program.calls for name, program in assembly.programs.items()}
    features = [Features("relaxed-simd" in own, "threads" in own) for own in wasm_variants.values()]
    modules = emit_modules(assembly.kernels, calls, features, METHODS[accuracy])
    files.update(zip(wasm_variants, (module.code for module in modules), strict=True))
    variants = tuple(WasmVariant(file, own) for file, own in wasm_variants.items())
    return Wasm(variants, max(module.scratch_bytes for module in modules))


def _generate_wgsl(
    assembly: Assembly, files: dict[str, bytes]
) -> tuple[Wgsl, tuple[tuple[Workgroups, ...], ...]]:
    """What every device can use, and variants of the kernels that they have another text for."""
    plain = [replace(kernel, origin="") for kernel in assembly.kernels]
    general = {kernel.name: emit_kernel(kernel) for kernel in plain}
    files[WGSL_FILE] = _wgsl_text(general)
    variants = []
    for variant in VARIANTS:
        modules = {kernel.name: emit_kernel(kernel, variant) for kernel in plain}
        own = {n: m for n, m in modules.items() if m.source != general[n].source}
        if own:
            file = f"kernels.{variant.name}.wgsl"
            files[file] = _wgsl_text(own)
            workgroups = {name: _workgroups(module) for name, module in own.items()}
            finish = {
                name: Finish(_workgroups(last), last.scratch_bytes)
                for name, last in ((name, module.finish) for name, module in own.items())
                if last
            }
            variants.append(
                WgslVariant(
                    variant.name, file, variant.features, variant.is_for_software, workgroups,
                    finish or None,
                )
            )  # fmt: skip
    wgsl = Wgsl(WGSL_FILE, tuple(variants) or None, _generate_halves(plain, files))
    return wgsl, tuple(_workgroups(module) for module in general.values())


def _generate_halves(kernels: Sequence[Kernel], files: dict[str, bytes]) -> WgslHalves | None:
    """The kernels that touch float16 numbers, for memory in which these take two bytes."""
    own = {
        kernel.name: emit_kernel(kernel, HALVES)
        for kernel in kernels
        if any(param.is_half for param in kernel.params)
    }
    if not own:
        return None
    files[HALVES_FILE] = _wgsl_text(own)
    return WgslHalves(
        HALVES_FILE, HALVES.features, {name: _workgroups(module) for name, module in own.items()}
    )


def _wgsl_text(modules: Mapping[str, WgslKernel]) -> bytes:
    parts = (
        f"{MARKER}{name}{end}\n{phase.source.strip()}\n"
        for name, module in modules.items()
        for phase, end in zip(module.phases, ("", FINISH), strict=False)
    )
    return "\n".join(parts).encode()


def _workgroups(module: Phase) -> tuple[Workgroups, ...]:
    return tuple(Workgroups(extent, per) for extent, per in module.workgroups)

"""The products and convolutions of a training step on WebGPU, by every template that could compute
them.

python -m bench.webgpu_products NAME[:BATCH] ...

NAME is a workload of workloads.py or larger.py.  Without a GPU the device is SwiftShader.  Every
kernel runs in its place in the step; a time is the best of its timestamps.  A star marks what the
compiler takes where nothing was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.wasm_steps import Prepared, operations, prepare
from bench.webgpu import Dispatch, Gpu, bindings
from hearth.codegen.wgsl import Phase, WgslKernel, emit_kernel
from hearth.codegen.wgsl.choose import TEMPLATES, emit_template
from hearth.codegen.wgsl.contraction import contraction_of
from hearth.codegen.wgsl.rewrite import spell
from hearth.ir.kernel import Kernel
from hearth.runtime.plan import make_plan


def products(gpu: Gpu, p: Prepared, only: Iterable[str]) -> None:
    steps = p.bundle.manifest.programs["train"].steps
    plan = make_plan(p.bundle.manifest, p.batch)
    seen: set[int] = set()
    for step in steps:
        kernel = p.kernels[step.kernel]
        if kernel.template is None or step.kernel in seen:
            continue
        seen.add(step.kernel)
        modules = candidates(kernel, only)
        sources: list[str] = []
        dispatches: list[Dispatch] = []
        for module in modules.values():
            first = len(sources)
            sources += [phase.source for phase in module.phases]
            counts = (_workgroups(phase, p.batch) for phase in module.phases)
            scratch = module.finish.scratch_bytes.at(p.batch) if module.finish else None
            own = bindings(plan, step.buffers, scratch)
            dispatches.append(Dispatch(tuple(enumerate(counts, first)), own))
        times = gpu.times(sources, dispatches, batch=p.batch, arena_bytes=plan.arena_bytes,
                          data={}, rounds=3, seconds=0)  # fmt: skip
        report(p, kernel, dict(zip(modules, times.kernels_ms, strict=True)))


def candidates(kernel: Kernel, only: Iterable[str]) -> dict[str, WgslKernel]:
    """Modules by the name of their template; the compiler's own choice first."""
    found = {"*": emit_kernel(kernel)}
    contraction = contraction_of(spell(kernel))
    if contraction is not None:
        for name, template in TEMPLATES.items():
            if not only or any(part in name for part in only):
                found[name] = emit_template(contraction, template)
    return found


def report(p: Prepared, kernel: Kernel, times: dict[str, float]) -> None:
    gflop = operations(kernel, p.batch) / 1e9
    axes = "x".join(map(str, kernel.axes))
    inner = " ".join("x".join(map(str, s.axes)) for s in kernel.stages if s.axes)
    print(f"{kernel.name} {axes} / {inner}  {gflop:.4f} GFLOP")
    order = sorted(times.items(), key=lambda item: item[1])
    own = times["*"]
    print("   " + ", ".join(f"{name} {ms:.2f}" for name, ms in order[:6])
          + f"; chosen {own:.2f} ms = {own / order[0][1]:.2f} of the best, "
          f"{gflop / order[0][1] * 1e3:.1f} GF/s", flush=True)  # fmt: skip


def _workgroups(module: Phase, batch: int) -> int:
    return prod(-(-extent.at(batch) // per) for extent, per in module.workgroups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--templates", default="", help="parts of names of templates, by commas")
    parser.add_argument("--folder", type=Path, help="keeps the bundles, and takes those it has")
    given = parser.parse_args()
    only = [part for part in given.templates.split(",") if part]
    with TemporaryDirectory() as temporary, Gpu() as gpu:
        for name in given.names:
            print(name, flush=True)
            folder = given.folder or Path(temporary)
            products(gpu, prepare(name, folder, "webgpu"), only)


if __name__ == "__main__":
    main()

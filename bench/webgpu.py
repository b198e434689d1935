"""Times WGSL modules in a headless Chromium, on its GPU or on SwiftShader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.headless import HeadlessPage, in_base64
from hearth.bundle.dtypes import to_device
from hearth.bundle.read import Bundle
from hearth.bundle.wgsl import launches_of, workgroup_count
from hearth.runtime.browser import has_gpu, launch_flags
from hearth.runtime.plan import Plan, make_plan

MAX_GRID = 65535
# Without it Chromium rounds timestamps to a tenth of a millisecond.
EXACT_TIMESTAMPS = "--enable-webgpu-developer-features"


@dataclass(frozen=True)
class Dispatch:
    """A kernel: modules of a request with their workgroups, and what they bind.

    Bindings are offsets and sizes in bytes.
    """

    phases: tuple[tuple[int, int], ...]
    bindings: tuple[tuple[int, int], ...]

    def as_json(self) -> dict[str, Any]:
        phases = [
            {"module": module, "counts": [min(count, MAX_GRID), -(-count // MAX_GRID)]}
            for module, count in self.phases
        ]
        return {"phases": phases, "bindings": self.bindings}


@dataclass(frozen=True)
class Times:
    compile_ms: float
    step_ms: list[float]
    kernels_ms: list[float]


class Gpu(HeadlessPage):
    """One Chromium for all measurements of a run."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("webgpu_timing.js")
        page = b'<!doctype html><script src="/timing.js"></script>'
        flags = launch_flags("webgpu", software_gpu=not has_gpu())
        super().__init__({"/index.html": page, "/timing.js": script},
                         ["--headless=new", *flags, EXACT_TIMESTAMPS])  # fmt: skip

    def times(self, modules: Sequence[str], dispatches: Sequence[Dispatch], *, batch: int,
              arena_bytes: int, data: Mapping[int, Any], rounds: int = 5,
              seconds: float = 0.5) -> Times:  # fmt: skip
        """Of all dispatches as a step, and of each; `data` are arrays by their place in bytes."""
        ends = [at + size for d in dispatches for at, size in d.bindings]  # of scratch memory, too
        found = self.page.evaluate("request => measure(request)", {
            "modules": modules,
            "dispatches": [d.as_json() for d in dispatches],
            "arenaBytes": max(arena_bytes, 256, *ends),
            "segments": [[at, in_base64(a.tobytes())] for at, a in data.items() if a.any()],
            "batch": batch, "rounds": rounds, "seconds": seconds,
        })  # fmt: skip
        return Times(**found)

    def step(self, bundle: Bundle, arrays: Mapping[int, Any], batch: int, *, variant: str,
             rounds: int = 5, seconds: float = 0.5) -> Times:  # fmt: skip
        """Of one training step of a bundle; `arrays` are its inputs by buffer."""
        manifest = bundle.manifest
        launches = launches_of(bundle, variant)
        plan = make_plan(manifest, batch)
        sources: list[str] = []
        dispatches: list[Dispatch] = []
        for step in manifest.programs["train"].steps:
            launch = launches[manifest.kernels[step.kernel].name]
            phases = []
            for phase in launch.phases:
                assert phase.source is not None
                if phase.source not in sources:
                    sources.append(phase.source)
                count = workgroup_count(phase.workgroups, batch)
                phases.append((sources.index(phase.source), count))
            scratch = launch.scratch_bytes.at(batch) if launch.has_scratch else None
            dispatches.append(Dispatch(tuple(phases), bindings(plan, step.buffers, scratch)))
        state = bundle.initial_state()
        data = {s.offset: to_device(state[s.name], s.name) for s in manifest.state}
        data |= {plan.offsets[buffer]: array for buffer, array in arrays.items()}
        return self.times(sources, dispatches, batch=batch, arena_bytes=plan.arena_bytes,
                          data=data, rounds=rounds, seconds=seconds)  # fmt: skip


def bindings(
    plan: Plan, buffers: Sequence[int], scratch_bytes: int | None = None
) -> tuple[tuple[int, int], ...]:
    """Ranges as the runtime binds them: whole vectors, scratch memory behind the arena."""
    ranges = [(plan.offsets[b], plan.sizes[b]) for b in buffers]
    if scratch_bytes is not None:
        ranges.append((plan.arena_bytes, scratch_bytes))
    return tuple((offset, max(16, -(-size // 16) * 16)) for offset, size in ranges)

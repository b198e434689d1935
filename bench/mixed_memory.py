"""What mixed precision saves: the arena of every workload in float32 and in float16.

    python -m bench.mixed_memory [--batch 64] [WORKLOAD ...]

Three columns for float16: where a half takes four bytes; if the rounded weights took two there, and
nothing else did; and on a GPU that stores all halves in two (shader-f16).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import torch

import hearth
from bench.workloads import WORKLOADS, loss, optimizer
from hearth.bundle.manifest import Manifest, Program
from hearth.bundle.memory import plan_memory
from hearth.driver.compiled import Compiled
from hearth.inspection import human_bytes, table

HEADINGS = ("workload", "state", "float32", "float16", "weights in 2 bytes", "shader-f16")


def compiled(name: str, precision: str) -> Manifest:
    torch.manual_seed(0)
    workload = WORKLOADS[name]
    model = workload.model()
    step = hearth.TrainStep(model, loss, optimizer(model), precision=precision)
    bundle: Compiled = hearth.compile(step, *workload.batch(2), backends=["webgpu"])
    return bundle.manifest


def row(name: str, batch: int) -> Iterator[str]:
    wide, mixed = (compiled(name, precision) for precision in ("float32", "float16"))
    yield name
    yield human_bytes(wide.state_bytes)
    yield human_bytes(plan_memory(wide, batch).arena_bytes)
    yield human_bytes(plan_memory(mixed, batch).arena_bytes)
    yield human_bytes(plan_memory(with_narrow_weights(mixed), batch).arena_bytes)
    yield human_bytes(plan_memory(mixed, batch, halves=True).arena_bytes)


def with_narrow_weights(manifest: Manifest) -> Manifest:
    """Halves that do not depend on the batch take two bytes, the others four."""

    def narrowed(program: Program) -> Program:
        slots = tuple(
            narrow if all(size.is_static for size in narrow) else wide
            for wide, narrow in zip(program.slots, program.half_slots or program.slots, strict=True)
        )
        return replace(program, slots=slots, half_slots=None)

    programs = {name: narrowed(program) for name, program in manifest.programs.items()}
    return replace(manifest, programs=programs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    rows = [tuple(row(name, options.batch)) for name in options.workloads]
    print("\n".join(table([HEADINGS, *rows], right=frozenset({1, 2, 3, 4, 5}))))


if __name__ == "__main__":
    main()

"""Planned bytes against measured, for the six workloads, with and without recomputation.

    python -m bench.memory [NAME ...]

Compiles the named workloads (by default all) as they are, and once more within `memory_bytes` for a
batch of 32: 256 MiB for ResNet-18, else 7/10 of what they take, or the least that can be reached.
Measured is the length of the WebAssembly memory that wasmtime holds with one thread after a
training step (ResNet-18: after it has been made room for the batch).  Writes docs/memory.md; the
rows of workloads that are not named stay as they are there.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import torch

import hearth
from bench.workloads import WORKLOADS, Workload, loss, optimizer
from hearth.bundle.memory import plan_memory
from hearth.driver.compiled import Compiled

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "memory.md"
BATCHES: Final = (1, 32, 128)
BATCH: Final = 32
MIB: Final = 1 << 20
BUDGET: Final = 256 * MIB
LARGE: Final = "resnet18"

Row = dict[str, Any]
Lines = dict[str, list[str]]  # of the table, by workload


def compiled(workload: Workload, memory_bytes: int | None = None) -> Compiled:
    model = workload.seeded_model()
    step = hearth.TrainStep(model, loss, optimizer(model))
    bundle: Compiled = hearth.compile(
        step, *workload.batch(1), backends=("wasm",), memory_bytes=memory_bytes, memory_batch=BATCH
    )
    return bundle


def with_recomputation(workload: Workload, memory_bytes: int) -> Compiled:
    """Within the bytes, or within the least that recomputation reaches."""
    try:
        return compiled(workload, memory_bytes)
    except hearth.OutOfMemoryError as error:
        found = re.search(r"memory_bytes=(\d+)", error.remedy)
        assert found is not None
        return compiled(workload, int(found[1]))


def measured(workload: Workload, bundle: Compiled, batch: int) -> int:
    """Bytes of the memory of wasmtime."""
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder) / "dist", runtime=False)
        with hearth.open_runner(Path(folder) / "dist", "wasm", batch_size=batch) as runner:
            if workload.name != LARGE:
                x, y = workload.batch(batch)
                runner.train_batch((x.numpy(),), (y.numpy(),))
            size: int = runner._device._bytes.nbytes
            return size


def row(workload: Workload, bundle: Compiled) -> Row:
    manifest = bundle.manifest
    train = manifest.programs["train"]
    figures = {}
    for batch in BATCHES:
        figures[batch] = {
            "slots": plan_memory(manifest, batch).program_bytes["train"],
            "planned": bundle.memory_bytes(batch)["wasm"],
            "measured": measured(workload, bundle, batch),
        }
    scratch = manifest.wasm.scratch_bytes if manifest.wasm else 0
    kernels = len(train.steps)
    return {"state": manifest.state_bytes, "scratch": scratch, "steps": kernels, "at": figures}


def measure(workload: Workload) -> dict[str, Row]:
    torch.manual_seed(1)
    plain = compiled(workload)
    needed = plain.memory_bytes(BATCH)["wasm"]
    wanted = BUDGET if workload.name == LARGE else 7 * needed // 10
    return {
        "kept": row(workload, plain),
        "recomputed": row(workload, with_recomputation(workload, wanted)),
    }


# ---------------------------------------------------------------- writing

HEAD: Final = """<!-- Written by `python -m bench.memory`: run it again instead of editing. -->

# Memory

What a training step needs is known before anything is allocated: `Compiled.memory_bytes(batch)` in
Python, `trainer.bytesFor(batch)` in the browser, `hearth inspect --batch`. It is state (parameters,
gradients, optimizer state), slots for the values of a step, scratch memory of WebAssembly kernels
for each thread, and staging buffers of WebGPU. Programs never run at the same time, so slots are
those of the program that needs most: with `inspect=True` or `explain=` that may be one of theirs.

Beside that, outside of the budget, `fit` keeps what it can go back to: parameters, buffers and
optimizer state of the last good step, two of them for half of the time, and up to 16 MiB of batches
(web/runtime/README.md, `recovery`). ResNet-18 with AdamW takes 128 MiB for one. With
`recovery: false` there is none on WebAssembly; on WebGPU there is one, for a device that is lost.

In the browser `bytesFor`, `trainer.device.bytes` and the budget count float16 numbers of mixed
precision in the bytes that they take on that device: two on a GPU with `shader-f16`, else four. In
Python the device is not known: `memory_bytes(batch)` and `memory_bytes=` count four, which holds
everywhere, and `memory_bytes(batch, halves=True)` two.

`hearth.compile(step, x, y, memory_bytes=256 << 20, memory_batch=32)` computes values again for
their gradient instead of keeping them, until the step fits (`hearth/schedule/recompute.py`); the
results stay the same bit for bit. `torch.utils.checkpoint` in a model does so where the model says.

The browser has a budget of 256 MiB (`Trainer.load(url, { memoryBytes })`); a batch that needs more
is an `OutOfMemoryError` that names the largest that fits.

## Larger than a GPU buffer

A GPU limits what one buffer and one binding may have; every WebGPU device gives 128 MiB, most
give gigabytes. A model that needs more lies in several buffers: the plan is laid out in pages of
that size, and no tensor lies in two. Nothing is computed otherwise, so the results stay the same
bit for bit; what fits is one buffer as ever. `Trainer.load(url, { gpuBufferBytes })` lowers the
limit. The parameters of an optimizer group, which one kernel updates as a vector, are several
vectors of at most 128 MiB each where they are more.

One tensor that is larger cannot be bound at all. That is an `OutOfMemoryError` with its name or its
line of the model, its bytes, the limit, and the largest batch of which it can be bound. With
`backend: "auto"` or `"webgpu"` the model then trains on WebAssembly, which has no such limit (but
ends at 4 GiB), and a warning says why.

With `inspect=True` the updates of an optimizer group can be read as one tensor; for a group of more
than the limit `inspect=hearth.Taps(values=False)` does without it.

## Planned and measured

AdamW, MiB. *State* and *scratch* are of the whole bundle; *slots* are those of a training step,
*planned* and *measured* the whole memory on WebAssembly with one thread (pages of 64 KiB).
*Kernels* are the dispatches of a step. The second rows of a model are compiled with
`memory_bytes=` for a batch of 32: 256 MiB for ResNet-18, else seven tenths of the first, or the
least that recomputation reaches.
"""
COLUMNS: Final = "| model |  | kernels | state | scratch | batch | slots | planned | measured |\n"
RULE: Final = "| --- | --- | --: | --: | --: | --: | --: | --: | --: |\n"


def lines_of(title: str, rows: dict[str, Row]) -> list[str]:
    """The rows of a workload, of which only the first says what all have."""
    lines = []
    for kind, own in rows.items():
        for batch, at in own["at"].items():
            name = title if batch == BATCHES[0] and kind == "kept" else ""
            head = [kind, str(own["steps"]), mib(own["state"]), mib(own["scratch"])]
            sizes = [mib(at[key]) for key in ("slots", "planned", "measured")]
            cells = [name, *(head if batch == BATCHES[0] else [""] * 4), str(batch), *sizes]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def lines_on(page: str) -> Lines:
    """Those that a page has."""
    names = {workload.title: name for name, workload in WORKLOADS.items()}
    found: Lines = {}
    name = None
    for line in page.partition(RULE)[2].splitlines():
        title = line.split("|")[1].strip() if line.startswith("|") else ""
        name = names.get(title, name)
        if name is not None and line.startswith("|"):
            found.setdefault(name, []).append(line)
    return found


def written(table: Lines) -> str:
    rows = [line for name in WORKLOADS for line in table.get(name, ())]
    return HEAD + "\n" + COLUMNS + RULE + "".join(f"{line}\n" for line in rows)


def mib(size: int) -> str:
    return f"{size / MIB:.2f}" if size < 100 * MIB else f"{size / MIB:.0f}"


def main() -> None:
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or WORKLOADS:
        rows = lines_of(WORKLOADS[name].title, measure(WORKLOADS[name]))
        PAGE.write_text(written(lines_on(PAGE.read_text()) | {name: rows}))
        print(f"{name}: written to {PAGE.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()

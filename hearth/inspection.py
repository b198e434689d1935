"""What `hearth inspect` shows: kernels, bytes moved, dispatches and memory of a bundle, as text.

Every figure comes from the manifest and the files; nothing is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import astuple
from math import prod

from hearth.bundle.manifest import Manifest, Program
from hearth.bundle.memory import buffer_bytes, needed_bytes, plan_memory
from hearth.bundle.read import Bundle
from hearth.bundle.wgsl import split_modules, workgroup_count
from hearth.codegen.wasm.decode import decode_module
from hearth.errors import InvalidInputError
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.traffic import traffic_of

Row = Sequence[str]


def describe(bundle: Bundle, batch: int) -> str:
    """The whole report for one batch size."""
    manifest = bundle.manifest
    sections = [*_head(manifest, batch), *_files(manifest), *_state(manifest)]
    for name, program in manifest.programs.items():
        sections += ["", *_program(manifest, name, program, batch)]
    return "\n".join(sections)


def kernel_source(bundle: Bundle, name: str) -> str:
    """The WGSL of one kernel, as the bundle ships it."""
    if bundle.manifest.wgsl is None:
        raise InvalidInputError(
            "this bundle was compiled without WebGPU", remedy="--target wasm prints WebAssembly"
        )
    modules = split_modules(bundle.file(bundle.manifest.wgsl.file).decode())
    _check_name(name, modules, "kernel")
    return modules[name]


def wasm_source(bundle: Bundle, name: str) -> str:
    """The text form of one kernel or program in the bundle's first WebAssembly module."""
    if bundle.manifest.wasm is None:
        raise InvalidInputError("this bundle was compiled without WebAssembly")
    file = bundle.manifest.wasm.variants[0].file
    module = decode_module(bundle.file(file))
    _check_name(name, dict.fromkeys(f.name for f in module.functions), "function")
    return module.text(name) + "\n"


def _check_name(name: str, known: Collection[str], kind: str) -> None:
    if name not in known:
        raise InvalidInputError(
            f"there is no {kind} {name!r}", remedy=f"there are: {', '.join(known)}"
        )


def table(rows: Iterable[Row], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Aligned columns; `right` lists those with numbers."""
    cells = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    for row in cells:
        aligned = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(aligned).rstrip()


def human_bytes(count: int) -> str:
    """1536 → "1.5 KiB"."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _head(manifest: Manifest, batch: int) -> Iterator[str]:
    plan = plan_memory(manifest, batch)
    targets = [t for t, part in (("wasm", manifest.wasm), ("webgpu", manifest.wgsl)) if part]
    parameters = [s for s in manifest.state if s.role == "parameter"]
    count = sum(prod(s.shape) for s in parameters)
    state = human_bytes(manifest.state_bytes)
    yield f"{manifest.model}, compiled by hearth {manifest.compiler} for {' and '.join(targets)}"
    yield f"{count:,} parameters in {len(parameters)} tensors, {len(manifest.kernels)} kernels"
    yield f"{human_bytes(plan.arena_bytes)} for batches up to {batch}, of which {state} state"
    for backend, needed in needed_bytes(manifest, batch).items():
        scratch = manifest.wasm.scratch_bytes if manifest.wasm and backend == "wasm" else 0
        more = f", {human_bytes(scratch)} more for each further thread" if scratch else ""
        yield f"{needed:,} bytes of memory to train on {backend}{more}"
    if manifest.wgsl and manifest.wgsl.halves:
        halves = needed_bytes(manifest, batch, halves=True)["webgpu"]
        yield f"{halves:,} bytes of memory to train on a GPU that stores float16 (shader-f16)"


def _files(manifest: Manifest) -> Iterator[str]:
    yield "\nfiles"
    rows = [(name, f"{entry.bytes:,}") for name, entry in manifest.files.items()]
    yield from table(rows, right=frozenset({1}))


def _state(manifest: Manifest) -> Iterator[str]:
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for entry in manifest.state:
        sizes[entry.role] += prod(entry.shape) * ELEMENT_BYTES
        counts[entry.role] += 1
    yield "\nstate"
    yield from table(
        [(role, str(counts[role]), human_bytes(sizes[role])) for role in counts],
        right=frozenset({1, 2}),
    )


def _program(manifest: Manifest, name: str, program: Program, batch: int) -> Iterator[str]:
    plan = plan_memory(manifest, batch)
    yield (
        f"{name}: {len(program.steps)} dispatches, {len(program.slots)} slots, "
        f"{human_bytes(plan.program_bytes[name])} for a batch of {batch}"
    )
    traffic = traffic_of(manifest, program, batch)
    moved, needed, held, alive = map(human_bytes, astuple(traffic))
    yield f"  moves {moved}; all inputs, outputs and state once are {needed}"
    yield f"  slots hold {held}; the values alive at once are {alive}"
    rows = [("", "kernel", "workgroups", "touches", "buffers")]
    for index, step in enumerate(program.steps):
        kernel = manifest.kernels[step.kernel]
        touched = sum(buffer_bytes(manifest, b, batch) for b in step.buffers)
        shapes = " ".join(_buffer(manifest, b) for b in step.buffers)
        row = (str(index), kernel.name, f"{workgroup_count(kernel.workgroups, batch):,}")
        rows.append((*row, human_bytes(touched), shapes))
    yield from table(rows, right=frozenset({0, 2, 3}))


def _buffer(manifest: Manifest, index: int) -> str:
    """`[B, 10]@slot` or, for state, the name of what lies there."""
    buffer = manifest.buffers[index]
    if buffer.offset is not None:
        names = [s.name for s in manifest.state if s.offset == buffer.offset]
        return names[0] if names else f"@{buffer.offset}"
    return f"[{', '.join(str(extent) for extent in buffer.shape)}]@{buffer.slot}"

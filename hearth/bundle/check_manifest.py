"""What the types of a manifest cannot say: indices in range, memory that fits, names that exist.

Each rule is one small function that yields the path and the reason of every breach, so that a
reader of the message finds the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

from hearth.bundle.manifest import Buffer, Input, Manifest, Output, Program, State
from hearth.errors import BundleFormatError
from hearth.ir.dim import product
from hearth.ir.dtype import ELEMENT_BYTES

Breach = tuple[str, str]  # path, reason


def check_manifest(manifest: Manifest, source: str = "manifest") -> None:
    """Raises `BundleFormatError` with the first breach of the contract in spec/manifest.md."""
    for rule in (_files, _state, _buffers, _kernels, _programs, _optimizer):
        for path, reason in rule(manifest):
            raise BundleFormatError(f"{source}.{path}: {reason}")


def _files(manifest: Manifest) -> Iterator[Breach]:
    for name in manifest.files:
        if not name or name.startswith(".") or "/" in name or "\\" in name:
            yield f"files[{name!r}]", "a bundle is one folder; this name leaves it or is hidden"
    named = {"golden.file": manifest.golden.file} if manifest.golden else {}
    if manifest.schedule:
        named["schedule.file"] = manifest.schedule.file
    if manifest.wgsl:
        named["wgsl.file"] = manifest.wgsl.file
        for i, own in enumerate(manifest.wgsl.variants or ()):
            named[f"wgsl.variants[{i}].file"] = own.file
        if manifest.wgsl.halves:
            named["wgsl.halves.file"] = manifest.wgsl.halves.file
    for i, variant in enumerate(manifest.wasm.variants if manifest.wasm else ()):
        named[f"wasm.variants[{i}].file"] = variant.file
    for path, file in named.items():
        if file not in manifest.files:
            yield path, f"{file!r} is not among the bundle's files"


def _state(manifest: Manifest) -> Iterator[Breach]:
    seen: set[str] = set()
    weights = {s.name for s in manifest.state if s.role == "parameter"}
    for i, state in enumerate(manifest.state):
        path = f"state[{i}]"
        if state.name in seen:
            yield f"{path}.name", f"{state.name!r} occurs twice"
        seen.add(state.name)
        if state.offset % 4 or state.offset < 0:
            yield f"{path}.offset", f"{state.offset} is not a multiple of 4"
        if any(extent < 0 for extent in state.shape):
            yield f"{path}.shape", f"{list(state.shape)} has a negative extent"
        elif state.offset + prod(state.shape) * ELEMENT_BYTES > manifest.state_bytes:
            yield f"{path}.offset", f"{state.name!r} ends after state_bytes"
        yield from _state_extras(state, path, weights)


def _state_extras(state: State, path: str, parameters: set[str]) -> Iterator[Breach]:
    if state.role == "parameter" and state.trainable is None:
        yield f"{path}.trainable", "a parameter says whether it is trained"
    if state.role == "buffer" and state.persistent is None:
        yield f"{path}.persistent", "a buffer says whether files hold it"
    if state.role == "optimizer":
        if state.name != f"{state.key}/{state.parameter}":
            yield f"{path}.name", f"{state.name!r} is not KEY/PARAMETER"
        if state.parameter not in parameters:
            yield f"{path}.parameter", f"there is no parameter {state.parameter!r}"
    if state.role == "step" and (state.dtype, prod(state.shape)) != ("int32", 1):
        yield path, "the step counter is one int32"
    if state.role == "seed" and (state.dtype, prod(state.shape)) != ("uint32", 2):
        yield path, "a seed is two uint32"


def _buffers(manifest: Manifest) -> Iterator[Breach]:
    for i, buffer in enumerate(manifest.buffers):
        path = f"buffers[{i}]"
        if (buffer.offset is None) == (buffer.slot is None):
            yield path, "needs either offset or slot"
        elif buffer.offset is not None:
            size = product(buffer.shape) * ELEMENT_BYTES
            if not size.is_static:
                yield f"{path}.shape", "the state region does not grow with the batch"
            elif buffer.offset < 0 or buffer.offset % 4:
                yield f"{path}.offset", f"{buffer.offset} is not a multiple of 4"
            elif buffer.offset + size.static > manifest.state_bytes:
                yield f"{path}.offset", "ends after state_bytes"


def _kernels(manifest: Manifest) -> Iterator[Breach]:
    seen: set[str] = set()
    for i, kernel in enumerate(manifest.kernels):
        if kernel.name in seen:
            yield f"kernels[{i}].name", f"{kernel.name!r} occurs twice"
        seen.add(kernel.name)
        for j, factor in enumerate(kernel.workgroups):
            if factor.per < 1:
                yield f"kernels[{i}].workgroups[{j}].per", f"{factor.per} is not positive"
    for i, variant in enumerate((manifest.wgsl and manifest.wgsl.variants) or ()):
        for name, factors in variant.workgroups.items():
            path = f"wgsl.variants[{i}].workgroups.{name}"
            if name not in seen:
                yield path, "there is no such kernel"
            if any(factor.per < 1 for factor in factors):
                yield path, "a factor is not positive"
        for name, finish in (variant.finish or {}).items():
            path = f"wgsl.variants[{i}].finish.{name}"
            if name not in variant.workgroups:
                yield path, "the variant has no such kernel"
            if any(factor.per < 1 for factor in finish.workgroups):
                yield path, "a factor is not positive"


def _programs(manifest: Manifest) -> Iterator[Breach]:
    owners: dict[int, str] = {}
    for name, program in manifest.programs.items():
        path = f"programs.{name}"
        for index in sorted(_slot_buffers(manifest, program)):
            if owners.setdefault(index, name) != name:
                yield f"buffers[{index}]", f"lies in slots of {owners[index]} and {name}"
        yield from _above(program, path)
        yield from _ports(manifest, program, program.inputs, f"{path}.inputs")
        yield from _ports(manifest, program, program.outputs, f"{path}.outputs")
        for i, step in enumerate(program.steps):
            here = f"{path}.steps[{i}]"
            if not 0 <= step.kernel < len(manifest.kernels):
                yield f"{here}.kernel", f"there is no kernel {step.kernel}"
            breaches = [
                b
                for j, index in enumerate(step.buffers)
                for b in _buffer(manifest, program, index, f"{here}.buffers[{j}]")
            ]
            yield from breaches
            if not breaches:
                bound = [manifest.buffers[b] for b in step.buffers]
                yield from _alignment(bound, here, needed=256 if manifest.wgsl else 16)
                yield from _overlaps(bound, here)


def _slot_buffers(manifest: Manifest, program: Program) -> set[int]:
    touched = {b for step in program.steps for b in step.buffers}
    touched |= {port.buffer for port in program.inputs}
    touched |= {port.buffer for port in program.outputs}
    valid = touched & set(range(len(manifest.buffers)))
    return {b for b in valid if manifest.buffers[b].slot is not None}


def _ports(
    manifest: Manifest, program: Program, ports: Sequence[Input | Output], path: str
) -> Iterator[Breach]:
    for i, port in enumerate(ports):
        breaches = list(_buffer(manifest, program, port.buffer, f"{path}[{i}].buffer"))
        yield from breaches
        if not breaches and product(manifest.buffers[port.buffer].shape) != product(port.shape):
            yield f"{path}[{i}].shape", f"buffer {port.buffer} has another number of elements"
        if isinstance(port, Output) and port.role == "metric":
            if port.dtype != "float32":
                yield f"{path}[{i}].dtype", "a metric is float32"
            if not all(extent.is_static for extent in port.shape):
                yield f"{path}[{i}].shape", "the shape of a metric does not depend on the batch"


def _above(program: Program, path: str) -> Iterator[Breach]:
    """A slot lies above earlier ones only, or nobody knows where to begin."""
    if program.above is None:
        return
    if len(program.above) != len(program.slots):
        yield f"{path}.above", f"has {len(program.above)} entries for {len(program.slots)} slots"
    for k, below in enumerate(program.above):
        if not all(0 <= slot < k for slot in below):
            yield f"{path}.above[{k}]", "names a slot that is not an earlier one"


def _buffer(manifest: Manifest, program: Program, index: int, path: str) -> Iterator[Breach]:
    if not 0 <= index < len(manifest.buffers):
        yield path, f"there is no buffer {index}"
        return
    buffer = manifest.buffers[index]
    if buffer.slot is None:
        return
    if not 0 <= buffer.slot < len(program.slots):
        yield path, f"buffer {index} lies in slot {buffer.slot}, which the program does not have"
        return
    size = product(buffer.shape) * ELEMENT_BYTES
    if not any(s.is_at_least(size) for s in program.slots[buffer.slot]):
        yield path, f"buffer {index} ({size} bytes) does not fit into slot {buffer.slot}"


def _alignment(buffers: Sequence[Buffer], path: str, needed: int) -> Iterator[Breach]:
    """WebGPU binds storage at multiples of 256 bytes; vector loads of WebAssembly like 16."""
    for j, buffer in enumerate(buffers):
        if buffer.offset is not None and buffer.offset % needed:
            reason = f"offset {buffer.offset} of a kernel's buffer is not a multiple of {needed}"
            yield f"{path}.buffers[{j}]", reason


def _overlaps(buffers: Sequence[Buffer], path: str) -> Iterator[Breach]:
    """A kernel may read and write one buffer, but never two views of the same memory."""
    slots = [b.slot for b in buffers if b.slot is not None]
    if len(set(slots)) < len(slots):
        yield f"{path}.buffers", "two buffers of one kernel lie in the same slot"
    spans = sorted(
        (b.offset, b.offset + product(b.shape).static * ELEMENT_BYTES)
        for b in buffers
        if b.offset is not None
    )
    for (_, end), (begin, _) in pairwise(spans):
        if begin < end:
            yield f"{path}.buffers", f"two buffers of one kernel overlap at byte {begin}"


def _optimizer(manifest: Manifest) -> Iterator[Breach]:
    parameters = {s.name for s in manifest.state if s.role == "parameter"}
    for i, group in enumerate(manifest.optimizer.groups if manifest.optimizer else ()):
        for j, name in enumerate(group.parameters):
            if name not in parameters:
                path = f"optimizer.groups[{i}].parameters[{j}]"
                yield path, f"there is no parameter {name!r}"

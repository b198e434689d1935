"""Tensors that a device cannot bind: a GPU has a limit for one, however many buffers it gives."""

from __future__ import annotations

from hearth.bundle.manifest import Manifest
from hearth.bundle.memory import buffer_bytes, largest_batch
from hearth.errors import OutOfMemoryError
from hearth.ir.dim import product
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.runtime.plan import buffers_of

CPU = 'use the CPU: backend "wasm"'


def require_bindable(
    manifest: Manifest, batch: int, limit_bytes: int, device: str, halves: bool = False
) -> None:
    """Raises `OutOfMemoryError` where a tensor is larger than one binding, and names it."""

    def size(buffer: int, batch: int) -> int:
        return buffer_bytes(manifest, buffer, batch, halves)

    used = sorted({b for program in manifest.programs.values() for b in buffers_of(program)})
    largest = max(used, key=lambda buffer: size(buffer, batch), default=None)
    if largest is None or size(largest, batch) <= limit_bytes:
        return
    fitting = largest_batch(lambda b: all(size(i, b) <= limit_bytes for i in used))
    what, where = describe_buffer(manifest, largest)
    smaller = f"at most {fitting} samples per batch" if fitting else "a smaller layer"
    raise OutOfMemoryError(
        f"{what} takes {size(largest, batch)} bytes for a batch of {batch}, "
        f"and {device} binds at most {limit_bytes} in one piece",
        where=where,
        remedy=f"use {smaller}, or {CPU}",
    )


def describe_buffer(manifest: Manifest, buffer: int) -> tuple[str, str]:
    """What a buffer holds, for people, and where in the model that comes from."""
    entry = manifest.buffers[buffer]
    if entry.offset is not None:
        return _describe_state(manifest, buffer, entry.offset), ""
    shape = f"[{', '.join(map(str, entry.shape))}]"
    for name, program in manifest.programs.items():
        ports = [(p.name, p.buffer) for p in program.inputs]
        ports += [(p.name, p.buffer) for p in program.outputs]
        for port, own in ports:
            if own == buffer:
                return f"{port} {shape} of the program {name}", ""
        for step in program.steps:
            if buffer in step.buffers:
                kernel = manifest.kernels[step.kernel]
                return f"a tensor {shape} of the kernel {kernel.name}", kernel.origin or ""
    raise AssertionError(f"no program touches buffer {buffer}")


def _describe_state(manifest: Manifest, buffer: int, start: int) -> str:
    end = start + buffer_bytes(manifest, buffer, 1)
    inside = [
        f"{s.role} {s.name}"
        for s in manifest.state
        if s.offset < end and start < s.offset + product(s.shape).at(1) * ELEMENT_BYTES
    ]
    if len(inside) <= 1:
        return "".join(inside) or "a table"
    return f"the vector from {inside[0]} to {inside[-1]}, which one kernel updates,"

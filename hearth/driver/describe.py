"""What the manifest says about a bundle's programs, buffers, kernels and state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hearth import __version__
from hearth.bundle import manifest as m
from hearth.driver.assemble import Assembly
from hearth.driver.generate import Generated
from hearth.driver.graph_parts import ProgramGraph
from hearth.driver.layout import StateLayout
from hearth.schedule.schedule import StatePlace


def describe(
    name: str,
    layout: StateLayout,
    assembly: Assembly,
    generated: Generated,
    graphs: Mapping[str, ProgramGraph],
) -> m.Manifest:
    """The manifest of what was generated; what belongs to a training step alone is not in it."""
    buffers = []
    for _, buffer in assembly.buffers:
        place = buffer.place
        where = {"offset": place.offset} if isinstance(place, StatePlace) else {"slot": place.slot}
        half = buffer.is_half or None
        buffers.append(m.Buffer(cast("Any", buffer.dtype), buffer.shape, **where, half=half))
    kernels = tuple(
        m.Kernel(kernel.name, workgroups, kernel.origin or None)
        for kernel, workgroups in zip(assembly.kernels, generated.workgroups, strict=True)
    )
    return m.Manifest(
        compiler=__version__,
        model=name,
        state=tuple(layout.entries),
        state_bytes=layout.size_bytes,
        buffers=tuple(buffers),
        kernels=kernels,
        programs={key: _program(graph, key, assembly) for key, graph in graphs.items()},
        random=max(program.streams for program in graphs.values()),
        wasm=generated.wasm,
        wgsl=generated.wgsl,
        accuracy=generated.accuracy,
    )


def _program(program: ProgramGraph, name: str, assembly: Assembly) -> m.Program:
    assembled = assembly.programs[name]
    inputs = []
    for i in program.inputs:
        promise = program.ranges.get(i.name)
        inputs.append(
            m.Input(
                i.name, cast("Any", i.role), cast("Any", i.value.dtype), i.value.shape,
                assembled.inputs[i.name],
                range=(promise.low, promise.high) if promise else None,
                except_=promise.except_value if promise else None,
            )
        )  # fmt: skip
    outputs = tuple(
        m.Output(
            o.name, cast("Any", o.role), cast("Any", o.value.dtype), o.value.shape,
            assembled.outputs[o.name],
        )
        for o in program.outputs
    )  # fmt: skip
    steps = tuple(m.Step(call.kernel, call.buffers) for call in assembled.calls)
    allocation = assembled.slots
    slots = tuple((size,) for size in allocation.sizes)
    halves = tuple((size,) for size in allocation.half_sizes)
    return m.Program(
        tuple(inputs), outputs, slots, steps, above=allocation.above,
        half_slots=halves if halves != slots else None,
    )  # fmt: skip

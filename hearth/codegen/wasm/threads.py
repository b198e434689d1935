"""Several threads in one program: who computes what, and the barrier between kernels.

Every thread runs the whole program; each kernel splits one of its axes into equal parts, in a fixed
way, so that a result does not depend on timing.  What all threads of a kernel need is computed in
shares, into the scratch memory of the first, and read after a meeting.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, i64, op
from hearth.codegen.wasm.module import Module
from hearth.codegen.wasm.opcodes import I32

ARRIVALS, GENERATION, SLEEPERS = 1088, 1152, 1216  # addresses: spec/manifest.md, "WebAssembly"
SCRATCH = 1024  # where the address of the first thread's scratch memory lies
SPINS = 20000  # about 50 us: waking a sleeping thread costs as much


def part(function: Function, extent: Operand, unit: int, thread: Operand,
         threads: Operand) -> tuple[Local, Local]:  # fmt: skip
    """This thread's [start, end) of an extent; parts begin at multiples of `unit`."""
    f = function
    extent = f.local(extent)
    units = op("i32.div_u", extent + threads * unit - 1, threads * unit)
    chunk = f.local(units * unit)
    start = f.smaller(thread * chunk, extent)
    return start, f.smaller(start + chunk, extent)


def meeting(module: Module) -> Function:
    """The barrier inside of a kernel, for each of its threads.  Parameter: how many.

    Nothing on one thread; a module for several puts `barrier` in its place.
    """
    return module.add(Function("meeting", (I32,)))


def barrier(module: Module) -> Function:
    """Returns when all threads have called it: a generation counter, spinning and then sleeping."""
    f = Function("barrier", (I32,))
    threads = f.param(0)
    generation = f.local(op("i32.atomic.load", i32(GENERATION)))
    arrived = op("i32.atomic.rmw.add", i32(ARRIVALS), i32(1)) + 1
    with f.if_(op("i32.eq", arrived, threads)):
        f.store("i32.atomic.store", i32(ARRIVALS), i32(0))
        f.store("i32.atomic.store", i32(GENERATION), generation + 1)
        with f.if_(op("i32.atomic.load", i32(SLEEPERS))):
            f.perform(op("memory.atomic.notify", i32(GENERATION), i32(-1)))
        f.else_()
        _wait(f, generation)
    return module.add(f)


def _wait(f: Function, generation: Local) -> None:
    def is_waiting() -> Operand:
        return op("i32.eq", op("i32.atomic.load", i32(GENERATION)), generation)

    spins = f.local(i32(SPINS))
    with f.loop():
        f.increment(spins, -1)
        f.repeat_if(op("i32.and", is_waiting(), op("i32.ne", spins, 0)))
    # A thread counts as a sleeper before it looks again: the last arrival cannot miss it.
    f.perform(op("i32.atomic.rmw.add", i32(SLEEPERS), i32(1)))
    with f.if_(is_waiting()), f.loop():
        f.perform(op("memory.atomic.wait32", i32(GENERATION), generation, i64(-1)))
        f.repeat_if(is_waiting())
    f.perform(op("i32.atomic.rmw.add", i32(SLEEPERS), i32(-1)))

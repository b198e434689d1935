"""Programs side by side: one list of kernels and one of buffers for the whole bundle.

Kernels of equal text are one: the forward pass of `train` and of `gradients` is shipped once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hearth.codegen.wasm import Call
from hearth.ir.kernel import Kernel
from hearth.ir.printer import format_kernel
from hearth.schedule.allocate import Allocation
from hearth.schedule.schedule import Buffer, Schedule, StatePlace


@dataclass(frozen=True, slots=True)
class AssembledProgram:
    calls: tuple[Call, ...]
    inputs: Mapping[str, int]  # name -> buffer
    outputs: Mapping[str, int]
    slots: Allocation


@dataclass
class Assembly:
    kernels: list[Kernel] = field(default_factory=list)
    buffers: list[tuple[str, Buffer]] = field(default_factory=list)  # program (state: "")
    programs: dict[str, AssembledProgram] = field(default_factory=dict)


def assemble(schedules: Mapping[str, Schedule]) -> Assembly:
    return _Assembler().run(schedules)


class _Assembler:
    def __init__(self) -> None:
        self.assembly = Assembly()
        self.kernel_numbers: dict[str, int] = {}
        self.buffer_numbers: dict[tuple[str, Buffer], int] = {}

    def run(self, schedules: Mapping[str, Schedule]) -> Assembly:
        for name, plan in schedules.items():
            self.assembly.programs[name] = AssembledProgram(
                tuple(
                    Call(self.kernel(s.kernel), tuple(self.buffer(name, b) for b in s.buffers))
                    for s in plan.steps
                ),
                {key: self.buffer(name, b) for key, b in plan.inputs.items()},
                {key: self.buffer(name, b) for key, b in plan.outputs.items()},
                plan.allocation,
            )
        return self.assembly

    def kernel(self, kernel: Kernel) -> int:
        text = format_kernel(replace(kernel, name="", origin=""))
        if text not in self.kernel_numbers:
            number = self.kernel_numbers[text] = len(self.assembly.kernels)
            self.assembly.kernels.append(replace(kernel, name=f"k{number}_{kernel.name}"))
        return self.kernel_numbers[text]

    def buffer(self, program: str, buffer: Buffer) -> int:
        key = ("" if isinstance(buffer.place, StatePlace) else program, buffer)
        if key not in self.buffer_numbers:
            self.buffer_numbers[key] = len(self.assembly.buffers)
            self.assembly.buffers.append(key)
        return self.buffer_numbers[key]

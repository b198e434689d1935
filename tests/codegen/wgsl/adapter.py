"""Runs single WGSL modules on a software adapter, through wgpu."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from hearth.codegen.wgsl import Phase, WgslKernel, emit_kernel
from hearth.ir.kernel import Kernel
from hearth.runtime.webgpu import ADAPTER_VARIABLE, find_adapter, for_wgpu, open_device

Array = Any


def grid_of(module: Phase, batch: int) -> tuple[int, int]:
    """The dispatch that spec/manifest.md prescribes."""
    count = math.prod(-(-extent.at(batch) // per) for extent, per in module.workgroups)
    return min(count, 65535), -(-count // 65535)


class Adapter:
    """Binds what spec/manifest.md says; every array is a buffer of its own."""

    def __init__(self) -> None:
        import wgpu

        os.environ.setdefault(ADAPTER_VARIABLE, "llvmpipe")
        self.device = open_device(find_adapter())
        self.storage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
        self.uniform = wgpu.BufferUsage.UNIFORM
        self.visibility = wgpu.ShaderStage.COMPUTE

    def run(self, kernel: Kernel, buffers: Sequence[Array], batch: int) -> list[Array]:
        return self.run_module(emit_kernel(kernel), buffers, batch)

    def run_module(self, module: WgslKernel, buffers: Sequence[Array], batch: int) -> list[Array]:
        """The buffers after the kernel has run on them."""
        device = self.device
        held = [device.create_buffer_with_data(data=b, usage=self.storage) for b in buffers]
        if module.finish:
            garbage = np.full(module.finish.scratch_bytes.at(batch) // 4, np.nan, np.float32)
            held.append(device.create_buffer_with_data(data=garbage, usage=self.storage))
        sizes = np.array([batch, 0, 0, 0], np.uint32)
        uniform = device.create_buffer_with_data(data=sizes, usage=self.uniform)
        layouts = [self._layout("storage", len(held)), self._layout("uniform", 1)]
        encoder = device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for phase in module.phases:
            compute.set_pipeline(self._pipeline(phase.source, layouts))
            compute.set_bind_group(0, self._bind(layouts[0], held))
            compute.set_bind_group(1, self._bind(layouts[1], [uniform]))
            compute.dispatch_workgroups(*grid_of(phase, batch), 1)
        compute.end()
        device.queue.submit([encoder.finish()])
        return [
            np.frombuffer(device.queue.read_buffer(buffer), given.dtype).copy()
            for buffer, given in zip(held, buffers, strict=False)
        ]

    def _pipeline(self, source: str, layouts: Sequence[Any]) -> Any:
        module = self.device.create_shader_module(code=for_wgpu(source))
        return self.device.create_compute_pipeline(
            layout=self.device.create_pipeline_layout(bind_group_layouts=list(layouts)),
            compute={"module": module, "entry_point": "main"},
        )

    def _layout(self, kind: str, count: int) -> Any:
        entries = [
            {"binding": i, "visibility": self.visibility, "buffer": {"type": kind}}
            for i in range(count)
        ]
        return self.device.create_bind_group_layout(entries=entries)

    def _bind(self, layout: Any, buffers: Sequence[Any]) -> Any:
        entries = [
            {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}}
            for i, b in enumerate(buffers)
        ]
        return self.device.create_bind_group(layout=layout, entries=entries)

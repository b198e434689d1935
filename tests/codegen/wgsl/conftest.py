"""A software WebGPU adapter that runs single kernels."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hearth.codegen.wgsl import WgslKernel, emit_kernel
from hearth.ir.kernel import Kernel

LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"
Array = Any


def pytest_configure() -> None:
    if Path(LAVAPIPE).exists():
        os.environ.setdefault("VK_ICD_FILENAMES", LAVAPIPE)
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())


class Gpu:
    """Compiles and runs one kernel at a time, as spec/manifest.md says."""

    def __init__(self) -> None:
        import wgpu

        adapters = wgpu.gpu.enumerate_adapters_sync()
        adapter = next(a for a in adapters if a.info["backend_type"] == "Vulkan")
        self.device = adapter.request_device_sync()
        self.storage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
        self.uniform = wgpu.BufferUsage.UNIFORM

    def run(self, kernel: Kernel, buffers: Sequence[Array], batch: int) -> list[Array]:
        return self.run_module(emit_kernel(kernel), buffers, batch)

    def run_module(
        self, module: WgslKernel, buffers: Sequence[Array], batch: int
    ) -> list[Array]:
        """The buffers after the kernel has run on them."""
        device = self.device
        shader = device.create_shader_module(code=module.source)
        held = [device.create_buffer_with_data(data=_padded(b), usage=self.storage) for b in buffers]
        sizes = np.array([batch, 0, 0, 0], np.uint32)
        uniform = device.create_buffer_with_data(data=sizes, usage=self.uniform)
        layouts = [self._layout("storage", len(held)), self._layout("uniform", 1)]
        pipeline = device.create_compute_pipeline(
            layout=device.create_pipeline_layout(bind_group_layouts=layouts),
            compute={"module": shader, "entry_point": "main"},
        )
        groups = [self._bind(layouts[0], held), self._bind(layouts[1], [uniform])]
        encoder = device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        for i, group in enumerate(groups):
            compute.set_bind_group(i, group)
        count = math.prod(-(-extent.at(batch) // per) for extent, per in module.workgroups)
        compute.dispatch_workgroups(min(count, 65535), -(-count // 65535), 1)
        compute.end()
        device.queue.submit([encoder.finish()])
        out = []
        for buffer, given in zip(held, buffers, strict=True):
            read = np.frombuffer(device.queue.read_buffer(buffer), given.dtype)
            out.append(read[: given.size].copy())
        return out

    def _layout(self, kind: str, count: int) -> Any:
        import wgpu

        return self.device.create_bind_group_layout(entries=[
            {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
            for i in range(count)
        ])  # fmt: skip

    def _bind(self, layout: Any, buffers: Sequence[Any]) -> Any:
        return self.device.create_bind_group(layout=layout, entries=[
            {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}}
            for i, b in enumerate(buffers)
        ])  # fmt: skip


def _padded(array: Array) -> Array:
    """At least one element; a bool is stored as an int32."""
    array = np.ascontiguousarray(array)
    return np.zeros(1, array.dtype) if array.size == 0 else array


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    return Gpu()

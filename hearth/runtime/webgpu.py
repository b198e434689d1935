"""A bundle's WebGPU kernels from Python, on wgpu: one arena buffer, one submit per program.

Every binding is a range of one buffer; a dispatch may therefore only read and write through
`read_write` bindings that do not overlap, which the compiler guarantees.  Pipelines are made when a
program first runs, bind groups once per plan, and a run only records and submits.

wgpu accepts more than browsers do and aborts the process on some modules that it should refuse;
what Chromium makes of the same text is tested in tests/browser.
"""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from typing import Any

import numpy as np
import wgpu  # type: ignore[import-untyped]
from numpy.typing import NDArray

from hearth.bundle.manifest import Kernel, Program, Step
from hearth.bundle.read import Bundle
from hearth.bundle.wgsl import GENERAL, HALVES, Launch, launches_of, workgroup_count
from hearth.errors import BackendError, BundleFormatError, DeviceLostError, OutOfMemoryError
from hearth.ir.dtype import ALIGNMENT_BYTES, align
from hearth.runtime.plan import Plan

VARIANT_VARIABLE = "HEARTH_WEBGPU_VARIANT"  # of kernels, as "quads"
ADAPTER_VARIABLE = "HEARTH_WEBGPU_ADAPTER"  # part of an adapter's name, as "llvmpipe"
MAX_GRID = 65535  # workgroups along one dimension of a dispatch
MAX_STORAGE_BINDINGS = 8  # the baseline of WebGPU
SMALLEST_BINDING_BYTES = 16  # wgpu aborts the process on a binding of nothing
UNIFORM_BYTES = 16
FEATURES = ("subgroup", "shader-f16")  # by wgpu's names


class WebgpuDevice:
    """Implements `Device`."""

    def __init__(self, bundle: Bundle, variant: str | None = None) -> None:
        """`variant` is one of the bundle's, "general", "halves" or what the environment says.

        By default it is "halves" where bundle and adapter have them.
        """
        self._manifest = bundle.manifest
        self._adapter = find_adapter()
        name = variant or os.environ.get(VARIANT_VARIABLE) or self._usual_variant()
        self._launches = launches_of(bundle, name)
        self._stores_halves = name == HALVES
        self._device = open_device(self._adapter)
        self._layouts: dict[tuple[str, int], Any] = {}
        self._pipelines: dict[int, list[Any]] = {}  # of every kernel, one per phase
        self._groups: dict[str, list[Any]] = {}  # per program, one bind group per step
        self._plan: Plan | None = None
        self._arena: Any = None
        usage = _usage("UNIFORM", "COPY_DST")
        self._uniform = self._device.create_buffer(size=UNIFORM_BYTES, usage=usage)
        self._batch = 0

    @property
    def name(self) -> str:
        info = self._adapter.info
        return f"wgpu {wgpu.__version__}, {info['device']} ({info['backend_type']})"

    @property
    def stores_halves(self) -> bool:
        return self._stores_halves

    def _usual_variant(self) -> str:
        halves = self._manifest.wgsl and self._manifest.wgsl.halves
        has_all = halves and all(feature in self._adapter.features for feature in halves.features)
        return HALVES if has_all else GENERAL

    # ------------------------------------------------------------ memory

    def prepare(self, plan: Plan) -> None:
        limits = self._device.limits
        scratch = self._scratch_bytes(plan.batch)
        needed, biggest = plan.arena_bytes + scratch, max((*plan.sizes, scratch))
        if needed > limits["max-buffer-size"] or (
            biggest > limits["max-storage-buffer-binding-size"]
        ):
            raise OutOfMemoryError(
                f"a batch of {plan.batch} needs {needed} bytes, {self.name} allows "
                f"{limits['max-buffer-size']} and {limits['max-storage-buffer-binding-size']} "
                f"per binding",
                remedy="use a smaller batch size",
            )
        old = self._arena
        arena = self._device.create_buffer(
            size=max(needed, ALIGNMENT_BYTES),
            usage=_usage("STORAGE", "COPY_SRC", "COPY_DST"),
        )
        if old is not None:
            if plan.state_bytes:
                encoder = self._device.create_command_encoder()
                encoder.copy_buffer_to_buffer(old, 0, arena, 0, plan.state_bytes)
                self._device.queue.submit([encoder.finish()])
            old.destroy()
        self._arena, self._plan, self._groups = arena, plan, {}

    def _scratch_bytes(self, batch: int) -> int:
        """What lies behind the arena for the kernels of two phases, which run one by one."""
        sizes = [launch.scratch_bytes.at(batch) for launch in self._launches.values()]
        return align(max(sizes, default=0))

    def write(self, buffer: int, elements: NDArray[Any]) -> None:
        self._write(self._offset(buffer), np.ascontiguousarray(elements).tobytes())

    def read(self, buffer: int, nbytes: int) -> bytes:
        return self._read(self._offset(buffer), nbytes)

    def write_state(self, offset: int, data: bytes) -> None:
        self._write(offset, data)

    def read_state(self, offset: int, nbytes: int) -> bytes:
        return self._read(offset, nbytes)

    def _write(self, offset: int, data: bytes) -> None:
        if data:
            self._device.queue.write_buffer(self._arena, offset, data)

    def _read(self, offset: int, nbytes: int) -> bytes:
        return bytes(self._device.queue.read_buffer(self._arena, offset, nbytes)) if nbytes else b""

    def _offset(self, buffer: int) -> int:
        assert self._plan is not None, "prepare() comes first"
        return self._plan.offsets[buffer]

    # ------------------------------------------------------------ programs

    def run(self, program: str, batch: int) -> None:
        assert self._plan is not None, "prepare() comes first"
        assert batch <= self._plan.batch, "the plan is too small"
        entry = self._manifest.programs[program]
        if batch != self._batch:
            words = np.array([batch, 0, 0, 0], np.uint32)
            self._device.queue.write_buffer(self._uniform, 0, words)
            self._batch = batch
        try:
            groups = self._groups.get(program)
            if groups is None:
                groups = self._groups[program] = self._bind_steps(entry)
            self._submit(entry, groups, batch)
        except wgpu.GPUError as error:
            raise DeviceLostError(
                f"{self.name} failed in program {program!r}", why=str(error)
            ) from error

    def close(self) -> None:
        for buffer in (self._arena, self._uniform):
            if buffer is not None:
                buffer.destroy()
        self._arena, self._groups, self._pipelines = None, {}, {}

    def _submit(self, program: Program, groups: list[Any], batch: int) -> None:
        """All steps in one pass: WebGPU orders dispatches that touch the same buffer."""
        encoder = self._device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_bind_group(1, self._batch_group())
        for step, group in zip(program.steps, groups, strict=True):
            compute.set_bind_group(0, group)
            for phase, pipeline in zip(
                self._launch(step).phases, self._pipelines_of(step), strict=True
            ):
                count = workgroup_count(phase.workgroups, batch)
                compute.set_pipeline(pipeline)
                compute.dispatch_workgroups(min(count, MAX_GRID), -(-count // MAX_GRID), 1)
        compute.end()
        self._device.queue.submit([encoder.finish()])

    def _bind_steps(self, program: Program) -> list[Any]:
        assert self._plan is not None
        plan = self._plan
        groups = []
        for step in program.steps:
            ranges = [(plan.offsets[b], _binding_bytes(plan.sizes[b])) for b in step.buffers]
            launch = self._launch(step)
            if launch.has_scratch:
                ranges.append((plan.arena_bytes, launch.scratch_bytes.at(plan.batch)))
            self._check_ranges(self._manifest.kernels[step.kernel], ranges)
            groups.append(self._bind("storage", self._arena, ranges))
        return groups

    def _check_ranges(self, kernel: Kernel, ranges: list[tuple[int, int]]) -> None:
        """What a browser would refuse and wgpu does not."""
        ordered = sorted(ranges)
        overlaps = any(a + n > b for (a, n), (b, _) in pairwise(ordered))
        misaligned = any(offset % ALIGNMENT_BYTES for offset, _ in ranges)
        if overlaps or misaligned or len(ranges) > MAX_STORAGE_BINDINGS:
            why = "ranges overlap" if overlaps else "an offset is not a multiple of 256"
            if len(ranges) > MAX_STORAGE_BINDINGS:
                why = f"{len(ranges)} buffers are more than {MAX_STORAGE_BINDINGS}"
            raise BundleFormatError(f"kernel {kernel.name!r} cannot be bound", why=why)

    def _batch_group(self) -> Any:
        return self._bind("uniform", self._uniform, [(0, UNIFORM_BYTES)])

    def _bind(self, kind: str, buffer: Any, ranges: list[tuple[int, int]]) -> Any:
        entries = [
            {"binding": i, "resource": {"buffer": buffer, "offset": offset, "size": size}}
            for i, (offset, size) in enumerate(ranges)
        ]
        layout = self._layout(kind, len(ranges))
        return self._device.create_bind_group(layout=layout, entries=entries)

    def _layout(self, kind: str, count: int) -> Any:
        """Explicit layouts, one per number of bindings, so that bind groups fit many pipelines."""
        if (kind, count) not in self._layouts:
            visibility = wgpu.ShaderStage.COMPUTE
            entries = [
                {"binding": i, "visibility": visibility, "buffer": {"type": kind}}
                for i in range(count)
            ]
            self._layouts[kind, count] = self._device.create_bind_group_layout(entries=entries)
        return self._layouts[kind, count]

    def _launch(self, step: Step) -> Launch:
        return self._launches[self._manifest.kernels[step.kernel].name]

    def _pipelines_of(self, step: Step) -> list[Any]:
        if step.kernel not in self._pipelines:
            name, launch = self._manifest.kernels[step.kernel].name, self._launch(step)
            bindings = len(step.buffers) + launch.has_scratch
            self._pipelines[step.kernel] = [
                self._compile(name, phase.source, bindings) for phase in launch.phases
            ]
        return self._pipelines[step.kernel]

    def _compile(self, name: str, source: str | None, bindings: int) -> Any:
        if source is None:
            raise BundleFormatError(f"the WGSL file has no module for kernel {name!r}")
        layouts = [self._layout("storage", bindings), self._layout("uniform", 1)]
        layout = self._device.create_pipeline_layout(bind_group_layouts=layouts)
        try:
            module = self._device.create_shader_module(code=for_wgpu(source), label=name)
            return self._device.create_compute_pipeline(
                layout=layout, compute={"module": module, "entry_point": "main"}, label=name
            )
        except wgpu.GPUError as error:
            raise BackendError(f"{self.name} refuses kernel {name!r}", why=str(error)) from error


def find_adapter() -> Any:
    """The best adapter: a GPU before a software one, or what `HEARTH_WEBGPU_ADAPTER` names.

    Raises `BackendError` where there is none.
    """
    # Vulkan loaders look for a display's sockets there, and print errors where it is not set.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    wanted = os.environ.get(ADAPTER_VARIABLE, "")
    adapters = [
        adapter
        for adapter in wgpu.gpu.enumerate_adapters_sync()
        if adapter.info["backend_type"] != "OpenGL"  # lacks what the kernels need
        and wanted.lower() in adapter.info["device"].lower()
    ]
    if not adapters:
        raise BackendError(
            f"there is no WebGPU adapter{f' called {wanted!r}' if wanted else ''}",
            why="wgpu found no Vulkan, Metal or Direct3D 12 driver",
            remedy="install a driver; for a software one on Debian: "
            "apt install mesa-vulkan-drivers libvulkan1",
        )
    ranks = ("DiscreteGPU", "IntegratedGPU", "VirtualGPU")
    return min(
        adapters,
        key=lambda a: (
            ranks.index(kind) if (kind := a.info["adapter_type"]) in ranks else len(ranks)
        ),
    )


def _binding_bytes(size: int) -> int:
    """Whole vectors: the room up to the next multiple of 256 is the buffer's own."""
    return max(-(-size // SMALLEST_BINDING_BYTES), 1) * SMALLEST_BINDING_BYTES


def open_device(adapter: Any) -> Any:
    """A device with the adapter's buffer sizes: the defaults end at 128 MiB per binding."""
    sizes = ("max-buffer-size", "max-storage-buffer-binding-size")
    return adapter.request_device_sync(
        required_limits={name: adapter.limits[name] for name in sizes},
        required_features=[f for f in FEATURES if f in adapter.features],
    )


def for_wgpu(source: str) -> str:
    """A module as wgpu wants it: it has subgroups without the line that enables them."""
    return source.replace("enable subgroups;\n", "")


def _usage(*names: str) -> int:
    flags = (getattr(wgpu.BufferUsage, name) for name in names)
    return int(sum(int(flag) for flag in flags))

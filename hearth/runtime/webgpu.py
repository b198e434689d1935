"""A bundle's WebGPU kernels from Python, on wgpu: one arena, one submit per program.

Bindings may be ranges of one buffer; a dispatch may therefore only read and write through
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
from hearth.bundle.memory import UNLIMITED
from hearth.bundle.read import Bundle
from hearth.bundle.wgsl import GENERAL, HALVES, Launch, launches_of, workgroup_count
from hearth.errors import BackendError, BundleFormatError, DeviceLostError, OutOfMemoryError
from hearth.ir.dtype import ALIGNMENT_BYTES, align
from hearth.runtime.large_tensors import require_bindable
from hearth.runtime.plan import Plan
from hearth.runtime.webgpu_arena import Arena

VARIANT_VARIABLE = "HEARTH_WEBGPU_VARIANT"  # of kernels, as "quads"
ADAPTER_VARIABLE = "HEARTH_WEBGPU_ADAPTER"  # part of an adapter's name, as "llvmpipe"
MAX_GRID = 65535  # workgroups along one dimension of a dispatch
MAX_STORAGE_BINDINGS = 8  # the baseline of WebGPU
SMALLEST_BINDING_BYTES = 16  # wgpu aborts the process on a binding of nothing
UNIFORM_BYTES = 16
FEATURES = ("subgroup", "shader-f16")  # by wgpu's names


class WebgpuDevice:
    """Implements `Device`."""

    def __init__(
        self, bundle: Bundle, variant: str | None = None, page_bytes: int = UNLIMITED
    ) -> None:
        """`variant` is one of the bundle's, "general", "halves" or what the environment says.

        By default it is "halves" where bundle and adapter have them.  `page_bytes` is the most that
        one buffer may take, where that is less than the adapter gives.
        """
        self._manifest = bundle.manifest
        self._adapter = find_adapter()
        name = variant or os.environ.get(VARIANT_VARIABLE) or self._usual_variant()
        self._launches = launches_of(bundle, name)
        self._stores_halves = name == HALVES
        self._device = open_device(self._adapter)
        self._page_bytes = min(page_bytes, _largest_page(self._device.limits))
        self._layouts: dict[tuple[str, int], Any] = {}
        self._pipelines: dict[int, list[Any]] = {}  # of every kernel, one per phase
        self._groups: dict[str, list[Any]] = {}  # per program, one bind group per step
        self._plan: Plan | None = None
        self._arena: Arena | None = None
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

    @property
    def page_bytes(self) -> int:
        return self._page_bytes

    def _usual_variant(self) -> str:
        halves = self._manifest.wgsl and self._manifest.wgsl.halves
        has_all = halves and all(feature in self._adapter.features for feature in halves.features)
        return HALVES if has_all else GENERAL

    # ------------------------------------------------------------ memory

    def prepare(self, plan: Plan) -> None:
        limit, scratch = self._page_bytes, self._scratch_bytes(plan.batch)
        require_bindable(self._manifest, plan.batch, limit, self.name, self._stores_halves)
        if max(scratch, *(page.size_bytes for page in plan.pages)) > limit:
            raise OutOfMemoryError(
                f"a batch of {plan.batch} needs {plan.arena_bytes + scratch} bytes, "
                f"{self.name} allows {limit} in one piece",
                remedy="use a smaller batch size",
            )
        old, self._arena = self._arena, Arena(self._device, plan, scratch, limit)
        if old is not None:
            self._arena.copy_from(old, plan.state_bytes)
            old.destroy()
        self._plan, self._groups = plan, {}

    def _scratch_bytes(self, batch: int) -> int:
        sizes = [launch.scratch_bytes.at(batch) for launch in self._launches.values()]
        return align(max(sizes, default=0))

    def write(self, buffer: int, elements: NDArray[Any]) -> None:
        self.write_state(self._offset(buffer), np.ascontiguousarray(elements).tobytes())

    def read(self, buffer: int, nbytes: int) -> bytes:
        return self.read_state(self._offset(buffer), nbytes)

    def write_state(self, offset: int, data: bytes) -> None:
        self._planned().write(offset, data)

    def read_state(self, offset: int, nbytes: int) -> bytes:
        return self._planned().read(offset, nbytes)

    def _planned(self) -> Arena:
        assert self._arena is not None, "prepare() comes first"
        return self._arena

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
        plan, arena = self._plan, self._planned()
        groups = []
        for step in program.steps:
            ranges = [(plan.offsets[b], _binding_bytes(plan.sizes[b])) for b in step.buffers]
            launch = self._launch(step)
            if launch.has_scratch:
                ranges.append((arena.scratch_offset, launch.scratch_bytes.at(plan.batch)))
            self._check_ranges(self._manifest.kernels[step.kernel], ranges)
            groups.append(self._bind("storage", [arena.binding(*own) for own in ranges]))
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
        return self._bind(
            "uniform", [{"buffer": self._uniform, "offset": 0, "size": UNIFORM_BYTES}]
        )

    def _bind(self, kind: str, resources: list[dict[str, Any]]) -> Any:
        entries = [{"binding": i, "resource": resource} for i, resource in enumerate(resources)]
        layout = self._layout(kind, len(resources))
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


def _largest_page(limits: Any) -> int:
    """What a device gives in one piece and binds in one."""
    names = ("max-buffer-size", "max-storage-buffer-binding-size")
    smallest = min(int(limits[name]) for name in names)
    return smallest - smallest % ALIGNMENT_BYTES


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

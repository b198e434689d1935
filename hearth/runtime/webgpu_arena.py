"""The arena on a GPU: one buffer, or several pages where a device gives no buffer of that size.

Offsets are those of the plan; a page begins at one of them.  No buffer of the bundle lies in two
pages, so a binding is a range of one; spans of the state may cross them and are taken apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import wgpu  # type: ignore[import-untyped]

from hearth.ir.dtype import ALIGNMENT_BYTES
from hearth.runtime.plan import Plan


class Arena:
    """Behind it lie `scratch_bytes` for the kernels of two phases, which run one by one."""

    def __init__(self, device: Any, plan: Plan, scratch_bytes: int, page_bytes: int) -> None:
        self._device = device
        self._starts = [page.start for page in plan.pages]
        sizes = [page.size_bytes for page in plan.pages]
        if sizes[-1] + scratch_bytes > page_bytes:
            self._starts.append(self._starts[-1] + sizes[-1])
            sizes.append(0)
        self.scratch_offset = self._starts[-1] + sizes[-1]
        sizes[-1] += scratch_bytes
        self.pages = [_page(device, max(size, ALIGNMENT_BYTES)) for size in sizes]

    def binding(self, offset: int, size: int) -> dict[str, Any]:
        """The range of a page that holds what lies there."""
        page = self._page(offset)
        return {"buffer": self.pages[page], "offset": offset - self._starts[page], "size": size}

    def write(self, offset: int, data: bytes) -> None:
        for page, start, first, last in self._parts(offset, len(data)):
            self._device.queue.write_buffer(self.pages[page], start, data[first:last])

    def read(self, offset: int, nbytes: int) -> bytes:
        return b"".join(
            bytes(self._device.queue.read_buffer(self.pages[page], start, last - first))
            for page, start, first, last in self._parts(offset, nbytes)
        )

    def copy_from(self, other: Arena, nbytes: int) -> None:
        """The first bytes of another arena, whose pages may begin elsewhere behind them."""
        encoder = self._device.create_command_encoder()
        for page, start, first, last in self._parts(0, nbytes):
            encoder.copy_buffer_to_buffer(
                other.pages[page], start, self.pages[page], start, last - first
            )
        self._device.queue.submit([encoder.finish()])

    def destroy(self) -> None:
        for page in self.pages:
            page.destroy()

    def _page(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def _parts(self, offset: int, nbytes: int) -> Iterator[tuple[int, int, int, int]]:
        """Of a span: each page, where in it the part begins, and which bytes of the span it is."""
        first = 0
        while first < nbytes:
            page = self._page(offset + first)
            following = self._starts[page + 1 : page + 2] or [offset + nbytes]
            last = min(following[0] - offset, nbytes)
            yield page, offset + first - self._starts[page], first, last
            first = last


def _page(device: Any, size: int) -> Any:
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    return device.create_buffer(size=size, usage=usage)

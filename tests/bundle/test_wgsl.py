"""The file of WGSL modules, and the number of workgroups of a kernel."""

from __future__ import annotations

from hearth.bundle.manifest import Kernel, Workgroups
from hearth.bundle.wgsl import split_modules, workgroup_count
from hearth.ir.dim import B, Dim


def test_workgroups_are_a_product_of_rounded_quotients() -> None:
    kernel = Kernel("k", (Workgroups(10 * B, 64), Workgroups(Dim.of(7), 2)))
    assert [workgroup_count(kernel.workgroups, batch) for batch in (1, 6, 7)] == [4, 4, 8]


def test_kernel_texts_are_split_at_their_markers() -> None:
    text = "// kernel: a\nfn a() {}\n\n// kernel: b\n// not kernel: x\nfn b() {}\n"
    assert split_modules(text) == {
        "a": "// kernel: a\nfn a() {}\n",
        "b": "// kernel: b\n// not kernel: x\nfn b() {}\n",
    }

"""Reductions by shuffles, in the adapter's own subgroups and in emulated ones of every size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hearth.codegen.wgsl import VARIANTS, WgslKernel, emit_kernel
from hearth.ir.dim import B
from hearth.ir.dtype import BOOL, FLOAT32, INT32
from tests.codegen.wgsl.adapter import Adapter
from tests.codegen.wgsl.cases import Case, case_of, graph_cases, node, reduce_kernel
from tests.codegen.wgsl.test_loops import batch_norm_statistics, softmax

pytestmark = pytest.mark.webgpu
SUBGROUPS = next(variant for variant in VARIANTS if variant.has_subgroup_sums)
SIZES = (4, 8, 16, 32, 64, 128)  # all that WGSL allows


def row_cases(kind: str, points: int, inner: int, dtype: str = FLOAT32) -> list[Case]:
    random = np.random.default_rng(inner)
    kernel = reduce_kernel(kind, dtype, points, inner, by_point=False)
    values = np.exp(random.standard_normal(points * inner) / 40).astype(np.float32)
    if dtype != FLOAT32:
        values = random.integers(0, 2, points * inner).astype(np.int32)
    return [case_of(kernel, [values], 1, rounding=160)]


CASES = [
    *(case for kind in ("sum", "prod", "max", "argmin") for case in row_cases(kind, 3, 1009)),
    *row_cases("sum", 70, 64),
    *row_cases("argmax", 5, 130, INT32),
    *row_cases("max", 5, 130, BOOL),
    *graph_cases("softmax over 33", softmax(node("x", B, 33), [1]), batch=6),
    *graph_cases("softmax over 768", softmax(node("x", B, 768), [1]), batch=6),
    *graph_cases("statistics", *batch_norm_statistics(8, 7), batch=9, rounding=64),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_reduction_by_the_adapters_subgroups(adapter: Adapter, case: Case) -> None:
    module = emit_kernel(case.kernel, SUBGROUPS)
    has_shuffles = "subgroupShuffleXor" in module.source
    assert has_shuffles == all(param.dtype != BOOL for param in case.kernel.params)
    case.check(adapter.run_module(module, case.buffers, case.batch))


@pytest.mark.parametrize("size", SIZES)
def test_a_reduction_by_subgroups_of_every_size(adapter: Adapter, size: int) -> None:
    cases = [*row_cases("sum", 3, 1009), *row_cases("max", 70, 64)]
    cases += graph_cases("softmax", softmax(node("x", B, 130), [1]), batch=6)
    for case in cases:
        module = emulated(emit_kernel(case.kernel, SUBGROUPS), size)
        case.check(adapter.run_module(module, case.buffers, case.batch))


def test_nan_wins_a_maximum_by_shuffles(adapter: Adapter) -> None:
    (case,) = row_cases("max", 2, 300)
    case.buffers[0][[7, 150]] = np.nan
    module = emit_kernel(case.kernel, SUBGROUPS)
    _, got = adapter.run_module(module, case.buffers, 1)
    assert np.isnan(got[0])
    assert not np.isnan(got[1])


def emulated(module: WgslKernel, size: int) -> WgslKernel:
    """The module with shuffles through workgroup memory, among as many threads as are asked for."""
    texts = {
        "enable subgroups;\n": f"""
const subgroup_size = {size}u;
var<private> me: u32;
var<workgroup> exchanged: array<f32, 256>;
fn exchange(value: f32, apart: u32) -> f32 {{
  workgroupBarrier();
  exchanged[me] = value;
  workgroupBarrier();
  let other = me ^ apart;
  if (other / subgroup_size != me / subgroup_size) {{ return -1000.0; }}
  return exchanged[other];
}}
""",
        "  @builtin(subgroup_invocation_id) subgroup_thread: u32,\n": "",
        "  @builtin(subgroup_size) subgroup_size: u32,\n": "",
        "  let B = batch.x;\n": "  let B = batch.x;\n  me = thread;\n",
        "subgroupShuffleXor(": "exchange(",
    }
    source = module.source
    for old, new in texts.items():
        assert old in source
        source = source.replace(old, new)
    return replace(module, source=source)

"""The generated WGSL in a real Chromium: Tint accepts it, and its numbers are right.

wgpu compiles the same text with another compiler (naga) that accepts more; both must agree with
float64.  The device has WebGPU's baseline limits, which is what every browser grants.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from hearth.codegen.wgsl import VARIANTS, Variant, WgslKernel, emit_kernel
from hearth.codegen.wgsl.choose import TEMPLATES, emit_template
from hearth.codegen.wgsl.contraction import contraction_of
from hearth.codegen.wgsl.rewrite import spell
from hearth.codegen.wgsl.variants import GENERAL
from hearth.ir import build
from hearth.ir.dim import B
from hearth.ir.dtype import BOOL, FLOAT32, INT32, STORED_AS, UINT32
from hearth.ir.graph import WindowSpec
from hearth.ir.scalar import SCALAR_OPS, apply
from hearth.ir.scalar_types import operands_allowed
from tests.browser.site_server import Reply, Site
from tests.codegen.wasm.test_scatter import table_gradient
from tests.codegen.wgsl.adapter import grid_of
from tests.codegen.wgsl.cases import (
    SPECIAL,
    Case,
    Geometry,
    case_of,
    conv_cases,
    dot_cases,
    graph_cases,
    map_kernel,
    node,
    reduce_kernel,
)
from tests.codegen.wgsl.test_loops import batch_norm_statistics, softmax

pytestmark = pytest.mark.chromium
Array = Any

_RUN = """
async (cases) => {
  const adapter = await navigator.gpu.requestAdapter();
  const requiredFeatures = ["subgroups"].filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({ requiredFeatures });
  const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const encode = (bytes) => {
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) {
      text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    }
    return btoa(text);
  };
  const layout = (type, count) => device.createBindGroupLayout({
    entries: Array.from({ length: count }, (_, binding) => (
      { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
  });
  const filled = (bytes, usage) => {
    const buffer = device.createBuffer({ size: bytes.length, usage, mappedAtCreation: true });
    new Uint8Array(buffer.getMappedRange()).set(bytes);
    buffer.unmap();
    return buffer;
  };
  const bind = (layout, buffers) => device.createBindGroup({
    layout, entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const read = async (buffer) => {
    const copy = device.createBuffer(
      { size: buffer.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, copy, 0, buffer.size);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    return encode(new Uint8Array(copy.getMappedRange()));
  };
  const run = async ({ phases, buffers, scratch, batch }) => {
    const modules = phases.map(({ source: code }) => device.createShaderModule({ code }));
    for (const module of modules) {
      const { messages } = await module.getCompilationInfo();
      if (messages.length) return { error: messages.map((m) => m.message).join("; ") };
    }
    const layouts = [layout("storage", buffers.length + (scratch ? 1 : 0)), layout("uniform", 1)];
    device.pushErrorScope("validation");
    const started = performance.now();
    const pipelines = await Promise.all(modules.map((module) => device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: layouts }),
      compute: { module, entryPoint: "main" },
    })));
    const compile_ms = performance.now() - started;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC;
    const held = buffers.map((text) => filled(decode(text), usage));
    const bound = scratch ? [...held, device.createBuffer({ size: scratch, usage })] : held;
    const sizes = filled(new Uint8Array(Uint32Array.of(batch, 0, 0, 0).buffer),
                         GPUBufferUsage.UNIFORM);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setBindGroup(0, bind(layouts[0], bound));
    pass.setBindGroup(1, bind(layouts[1], [sizes]));
    phases.forEach(({ grid }, i) => {
      pass.setPipeline(pipelines[i]);
      pass.dispatchWorkgroups(grid[0], grid[1], 1);
    });
    pass.end();
    device.queue.submit([encoder.finish()]);
    const results = [];
    for (const buffer of held) results.push(await read(buffer));
    const error = await device.popErrorScope();
    return error ? { error: error.message } : { results, compile_ms };
  };
  const answers = [];
  for (const given of cases) {
    answers.push(await run(given).catch((error) => ({ error: String(error) })));
  }
  return answers;
}
"""


@pytest.fixture(scope="module")
def empty_page(browser: Browser) -> Iterator[Page]:
    served = Site({"/index.html": Reply(b"<!doctype html><title>kernels</title>")}, isolated=False)
    page = browser.new_page()
    page.set_default_timeout(300_000)
    page.goto(served.url + "index.html")
    yield page
    page.close()
    served.close()


def run_all(page: Page, given: list[tuple[Case, WgslKernel]]) -> None:
    """Run every case and compare it; all failures are reported together."""
    answers = page.evaluate(
        _RUN,
        [
            {
                "phases": [
                    {"source": phase.source, "grid": grid_of(phase, case.batch)}
                    for phase in module.phases
                ],
                "buffers": [base64.b64encode(b.tobytes()).decode() for b in case.buffers],
                "scratch": module.finish.scratch_bytes.at(case.batch) if module.finish else 0,
                "batch": case.batch,
            }
            for case, module in given
        ],
    )
    failures = []
    for (case, _), answer in zip(given, answers, strict=True):
        if "error" in answer:
            failures.append(f"{case.name}: {answer['error']}")
            continue
        got = [
            np.frombuffer(base64.b64decode(text), buffer.dtype)
            for text, buffer in zip(answer["results"], case.buffers, strict=True)
        ]
        try:
            case.check(got)
        except AssertionError as error:
            failures.append(str(error))
    print(f"{len(given)} pipelines in {sum(a.get('compile_ms', 0) for a in answers):.0f} ms")
    assert not failures, "\n".join(failures)


def run_generated(page: Page, cases: list[Case], variant: Variant = GENERAL) -> None:
    run_all(page, [(case, emit_kernel(case.kernel, variant)) for case in cases])


def scalar_case(op: str, dtype: str) -> Case:
    arity = SCALAR_OPS[op].arity
    grids = np.meshgrid(*[SPECIAL] * min(arity, 2))
    columns = [grids[i % len(grids)].ravel() for i in range(arity)]
    if op in ("fmod", "remainder", "floor_div"):
        columns = [np.resize(c, 90) for c in (np.arange(-45, 45) + 0.5, np.array([3, -7, 16]))]
    if op == "pow":
        columns[1] = np.clip(columns[1], -3, 3)
    if dtype != FLOAT32:
        as_integers = [np.nan_to_num(c, posinf=7, neginf=-7).clip(-(2**30), 2**30) for c in columns]
        columns = [c.astype(np.int64).astype(np.uint32).view(np.int32) for c in as_integers]
    if dtype == BOOL:
        columns = [c & 1 for c in columns]
    if op.startswith("shift"):
        columns[1] = columns[1] & 31
    stored = [c.astype(STORED_AS[dtype]) for c in columns]
    kernel = map_kernel(lambda *x: apply(op, *x), [dtype] * arity, stored[0].size)
    # The exponential of pow magnifies the rounding of y·log|x|.
    rounding = 160 if op == "pow" else 16
    return case_of(kernel, stored, 1, rounding=rounding, name=f"{op} of {dtype}")


SCALARS = [
    (op, dtype)
    for op in SCALAR_OPS
    for dtype in (FLOAT32, INT32, UINT32, BOOL)
    if dtype in operands_allowed(op) and op != "where" and (op, dtype) not in
    (("div", INT32), ("div", UINT32), ("pow", INT32), ("pow", UINT32))
]  # fmt: skip


def test_every_scalar_op(empty_page: Page) -> None:
    run_generated(empty_page, [scalar_case(op, dtype) for op, dtype in SCALARS])


@pytest.mark.parametrize(
    "variant", [GENERAL, *(v for v in VARIANTS if v.has_subgroup_sums)], ids=lambda v: v.name
)
def test_reductions_rows_and_windows(empty_page: Page, variant: Variant) -> None:
    random = np.random.default_rng(0)
    cases = []
    for kind in ("sum", "prod", "max", "min", "argmax", "argmin"):
        for points, inner, by_point in ((7, 5, False), (3, 1009, False), (50, 90, True)):
            kernel = reduce_kernel(kind, FLOAT32, points, inner, by_point=by_point)
            values = np.exp(random.standard_normal(points * inner) / 40).astype(np.float32)
            cases.append(case_of(kernel, [values], 1, rounding=160))
    x = node("x", B, 3, 11, 9)
    spec = WindowSpec((3, 3), (2, 2), (1, 1), (1, 1))
    pooled = build.reduce("max", build.window(x, spec, -np.inf), [4, 5])
    cases += graph_cases("pooling", pooled, batch=3)
    cases += graph_cases("softmax", softmax(node("x", B, 100), [1]), batch=5)
    cases += graph_cases("softmax", softmax(node("x", B, 10), [1]), batch=5)
    cases += graph_cases("statistics", *batch_norm_statistics(8, 7), batch=9, rounding=64)
    run_generated(empty_page, cases, variant)


@pytest.mark.parametrize("variant", [GENERAL, *VARIANTS], ids=lambda variant: variant.name)
def test_products_and_convolutions(empty_page: Page, variant: Variant) -> None:
    cases = [
        *dot_cases(B, 128, 784, ta=False, tb=True, batch=5),
        *dot_cases(128, 784, B, ta=True, tb=False, batch=32),
        *dot_cases(17, 23, 19, ta=True, tb=True, batch=2, lead=(B,)),
        *conv_cases(Geometry.plain(1, 32, (28, 28), (3, 3)), B, 2),
        *conv_cases(Geometry.plain(32, 64, (13, 13), (3, 3)), B, 2),
        *conv_cases(Geometry(6, 8, (9, 11), (3, 3), (2, 2), (1, 1), (2, 1), groups=2), B, 5),
    ]
    run_generated(empty_page, cases, variant)


@pytest.mark.parametrize("variant", [GENERAL, *VARIANTS], ids=lambda variant: variant.name)
def test_rows_summed_by_their_index(empty_page: Page, variant: Variant) -> None:
    random = np.random.default_rng(0)
    cases = []
    for batch in (2, 9):
        kernel = table_gradient(40, 100)
        index = random.integers(-1, 45, 3 * batch).astype(np.int32)  # some are nobody's
        added = random.standard_normal(4000).astype(np.float32)
        values = random.standard_normal(300 * batch).astype(np.float32)
        cases.append(case_of(kernel, [index, values, added], batch, name="table"))
    run_generated(empty_page, cases, variant)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template(empty_page: Page, name: str) -> None:
    given = []
    for m, n, k in ((67, 131, 19), (64, 128, 16)):
        (case,) = dot_cases(m, n, k, ta=False, tb=True, batch=1)
        contraction = contraction_of(spell(case.kernel))
        assert contraction is not None
        given.append((case, emit_template(contraction, TEMPLATES[name])))
    run_all(empty_page, given)

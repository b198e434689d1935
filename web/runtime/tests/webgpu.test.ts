import assert from "node:assert/strict";
import { test } from "node:test";
import { adapterName, isSoftware } from "../src/features.ts";
import { BackendError, InternalError, OutOfMemoryError } from "../src/errors.ts";
import { createArena, largestPage, workgroupCounts } from "../src/webgpu-arena.ts";
import { compileKernels, splitKernels, type Kernels } from "../src/webgpu-kernels.ts";
import { fixtureFile, fixtureManifest, rejects } from "./fixture.ts";

const PAGE = 2 ** 27;

test("a file of kernels falls into one module per kernel", () => {
  const sources = splitKernels(new TextDecoder().decode(fixtureFile("kernels.wgsl")));
  assert.deepEqual([...sources.keys()], fixtureManifest().kernels.map(({ name }) => name));
  for (const code of sources.values()) assert.equal(code.match(/fn main\(/g)?.length, 1);
});

test("what training takes is compiled at load, another program when it is asked for", async () => {
  Object.assign(globalThis, { GPUShaderStage: { COMPUTE: 4 } });
  const { programs: { evaluate, gradients }, ...rest } = fixtureManifest();
  assert.ok(evaluate && gradients);
  const made = new Map<string, () => void>();
  const gpu = {
    createBindGroupLayout: () => ({}), createPipelineLayout: () => ({}),
    createShaderModule: () => ({}),
    createComputePipelineAsync: ({ label = "" }: GPUComputePipelineDescriptor) =>
      new Promise((resolve) => { made.set(label, () => { resolve({}); }); }),
  } as unknown as GPUDevice;
  const sources = splitKernels(new TextDecoder().decode(fixtureFile("kernels.wgsl")));
  const manifest = { ...rest, programs: { evaluate, inspect: gradients } };
  const opening = compileKernels(gpu, manifest, { name: "", sources, kernels: rest.kernels });
  await Promise.resolve();
  const atLoad = new Set(made.keys());
  for (const finish of made.values()) finish();
  const kernels = await opening;
  assert.equal(kernels.prepare("evaluate"), undefined);
  let ready = false;
  const compiling = kernels.prepare("inspect")?.then(() => { ready = true; });
  assert.ok(compiling);
  const late = [...made].filter(([label]) => !atLoad.has(label));
  assert.deepEqual([atLoad.size, late.length], [3, 1]); // the others are the same kernels
  await new Promise((resolve) => { setTimeout(resolve); });
  assert.ok(!ready);
  for (const [, finish] of late) finish();
  await compiling;
  assert.equal(kernels.prepare("inspect"), undefined);
});

test("workgroups fill one dimension, and a second one where it overflows", () => {
  const kernel = { name: "k", workgroups: [{ extent: [0, 3], per: 64 }, { extent: 5, per: 2 }] };
  assert.deepEqual(workgroupCounts(kernel, 1), [3, 1]);
  assert.deepEqual(workgroupCounts(kernel, 64), [9, 1]);
  assert.deepEqual(workgroupCounts(kernel, 1_500_000), [65535, 4]);
  const empty = { name: "empty", workgroups: [{ extent: 0, per: 1 }] };
  assert.deepEqual(workgroupCounts(empty, 1), [0, 0]);
});

test("a software adapter is known by its flag or its name", () => {
  const adapter = (info?: Partial<GPUAdapterInfo>): GPUAdapter => ({ info }) as GPUAdapter;
  assert.ok(isSoftware(adapter({ vendor: "google", architecture: "swiftshader" })));
  assert.ok(isSoftware(adapter({ description: "llvmpipe (LLVM 15.0.6, 256 bits)" })));
  assert.ok(isSoftware(adapter({ description: "Microsoft Basic Render Driver" })));
  assert.ok(isSoftware(adapter({ vendor: "acme", isFallbackAdapter: true })));
  assert.ok(!isSoftware(adapter({ vendor: "nvidia", architecture: "hopper" })));
  assert.ok(!isSoftware(adapter()));
  assert.equal(adapterName(adapter()), "unknown adapter");
  assert.equal(adapterName(adapter({ vendor: "apple", architecture: "apple" })), "apple");
});

test("a kernel of two phases binds scratch memory behind the arena", async () => {
  Object.assign(globalThis, { GPUBufferUsage: { STORAGE: 1, COPY_SRC: 2, COPY_DST: 4 } });
  const manifest = fixtureManifest();
  const { gpu } = countingGpu({});
  const bound: GPUBindGroupDescriptor[] = [];
  gpu.createBindGroup = (descriptor) => (bound.push(descriptor), {} as GPUBindGroup);
  const phase = { pipeline: {}, workgroups: [] };
  const finish = { workgroups: [], scratch_bytes: [4, 100] };
  const kernels = manifest.kernels.map((kernel, i) => (i === 0 ? { ...kernel, finish } : kernel));
  const layouts = new Map([1, 2, 3, 4, 5, 6, 7].map((count) => [count, {}]));
  const phases = kernels.map((_, i) => (i === 0 ? [phase, phase] : [phase]));
  const made = { kernels, phases, layouts } as unknown as Kernels;
  const arena = await createArena(gpu, manifest, made, 3, PAGE);
  assert.deepEqual(arena.buffers.map(({ size }) => size), [arena.plan.arenaBytes + 512]);
  const steps = Object.values(manifest.programs).flatMap((program) => program.steps);
  for (const [i, step] of steps.entries()) {
    const [extra, ...none] = [...bound[i]?.entries ?? []].slice(step.buffers.length);
    assert.deepEqual(none, []);
    const { offset, size } = (extra?.resource ?? {}) as GPUBufferBinding;
    const expected = step.kernel === 0 ? [arena.plan.arenaBytes, 304] : [undefined, undefined];
    assert.deepEqual([offset, size], expected);
  }
  const split = steps.filter(({ kernel }) => kernel === 0).length;
  const dispatched = [...arena.programs.values()].flat().length;
  assert.equal(dispatched, steps.length + split);
});

/** Counts what `createArena` leaves open on a GPU whose scopes report the given errors. */
function countingGpu(errors: Partial<Record<GPUErrorFilter, string>>) {
  const open = { buffers: 0, scopes: [] as GPUErrorFilter[] };
  const gpu = {
    pushErrorScope: (filter: GPUErrorFilter) => { open.scopes.push(filter); },
    popErrorScope: () => {
      const message = errors[open.scopes.pop() as GPUErrorFilter];
      return Promise.resolve(message === undefined ? null : { message });
    },
    createBuffer: ({ size }: GPUBufferDescriptor) => {
      open.buffers++;
      return { size, destroy: () => { open.buffers--; } };
    },
    createBindGroup: () => ({}),
  };
  return { gpu: gpu as unknown as GPUDevice, open };
}

test("a memory plan that is refused leaves no buffer and no error scope behind", async () => {
  Object.assign(globalThis, { GPUBufferUsage: { STORAGE: 1, COPY_SRC: 2, COPY_DST: 4 } });
  const manifest = fixtureManifest();
  const layouts = new Map([1, 2, 3, 4, 5, 6].map((count) => [count, {}]));
  const { kernels: own } = manifest;
  const phases = own.map(({ workgroups }) => [{ pipeline: {}, workgroups }]);
  const kernels = { kernels: own, phases, layouts } as unknown as Kernels;
  const none = { ...kernels, phases: [] };
  const cases = [
    [{}, none, InternalError, /a step has no kernel/],
    [{ validation: "bad offset" }, kernels, BackendError, /refuses the memory plan[^]*bad offset/],
    [{ "out-of-memory": "full", validation: "no buffer" }, kernels, OutOfMemoryError, /at most 4/],
  ] as const;
  for (const [errors, made, name, text] of cases) {
    const { gpu, open } = countingGpu(errors);
    await rejects(createArena(gpu, manifest, made, 8, PAGE), name, text);
    assert.deepEqual(open, { buffers: 0, scopes: [] });
  }
  const { gpu, open } = countingGpu({});
  await createArena(gpu, manifest, kernels, 8, PAGE);
  assert.deepEqual(open, { buffers: 1, scopes: [] });
});

test("a page is what one buffer and one binding may have, in whole bindings", () => {
  const limits = { maxBufferSize: 2 ** 32, maxStorageBufferBindingSize: 2 ** 31 - 4 };
  assert.equal(largestPage(limits as GPUSupportedLimits), 2 ** 31 - 256);
  assert.equal(largestPage(limits as GPUSupportedLimits, 1000), 768);
});

test("a tensor that no page holds is named, with the batch of which it can be bound", async () => {
  const { gpu, open } = countingGpu({});
  const manifest = fixtureManifest();
  const made = { kernels: [], phases: [], layouts: new Map() } as unknown as Kernels;
  const refused: unknown = await createArena(gpu, manifest, made, 100, 512)
    .catch((error: unknown) => error);
  assert.ok(refused instanceof OutOfMemoryError);
  const input = /^x \[B, 4\] of the program train takes 1600 bytes for a batch of 100/;
  assert.match(refused.message, input);
  assert.match(refused.message, /binds at most 512 in one piece/);
  assert.match(refused.message, /at most 32 samples per batch, or backend: "wasm"/);
  assert.equal(refused.suggestedBatchSize, 32);
  const none = createArena(gpu, manifest, made, 1, 32);
  await rejects(none, OutOfMemoryError, /linear.weight to [^]*takes 60 bytes[^]*a smaller layer/);
  assert.deepEqual(open, { buffers: 0, scopes: [] });
});

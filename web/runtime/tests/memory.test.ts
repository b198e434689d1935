import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidInputError, OutOfMemoryError } from "../src/errors.ts";
import { Trainer, type TrainerOptions } from "../src/index.ts";
import { DEFAULT_MEMORY_BYTES, neededBytes, UNIFORM_BYTES } from "../src/memory.ts";
import { planMemory } from "../src/plan.ts";
import { createArena } from "../src/webgpu-arena.ts";
import type { Kernels } from "../src/webgpu-kernels.ts";
import { Readback } from "../src/webgpu-readback.ts";
import { fixtureManifest, fixtureSource, rejects } from "./fixture.ts";

const load = (options: TrainerOptions = {}): Promise<Trainer> =>
  Trainer.load(fixtureSource(), { backend: "wasm", threads: 1, ...options });

/** A batch of the fixture's model. */
function samples(count: number): [Float32Array, Int32Array] {
  const x = Float32Array.from({ length: 4 * count }, (_, i) => Math.sin(i));
  return [x, Int32Array.from({ length: count }, (_, i) => i % 3)];
}

test("WebAssembly has as much memory as was planned, at load and after it has grown", async () => {
  const { Memory } = WebAssembly;
  const made: WebAssembly.Memory[] = [];
  WebAssembly.Memory = class extends Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      super(descriptor);
      made.push(this);
    }
  };
  try {
    const trainer = await load({ batchSize: 8 });
    const memory = made.at(-1);
    assert.ok(memory);
    assert.equal(memory.buffer.byteLength, trainer.bytesFor(8));
    assert.equal(trainer.device.bytes, trainer.bytesFor(8));
    const planned = trainer.bytesFor(20_000); // known before it is tried
    assert.ok(planned > trainer.device.bytes);
    await trainer.trainBatch(...samples(20_000));
    assert.equal(memory.buffer.byteLength, planned);
    assert.equal(trainer.device.bytes, planned);
    await trainer.dispose();
  } finally {
    WebAssembly.Memory = Memory;
  }
});

/** A GPU that keeps the sizes of its buffers, and kernels for the fixture. */
function sizedGpu(): { gpu: GPUDevice; sizes: number[]; kernels: Kernels } {
  Object.assign(globalThis, { GPUBufferUsage: { STORAGE: 1, COPY_SRC: 2, COPY_DST: 4 } });
  const sizes: number[] = [];
  const gpu = {
    pushErrorScope: () => undefined,
    popErrorScope: () => Promise.resolve(null),
    createBindGroup: () => ({}),
    createBuffer: ({ size }: GPUBufferDescriptor) => {
      sizes.push(size);
      return { size, destroy: () => undefined };
    },
  } as unknown as GPUDevice;
  const { kernels } = fixtureManifest();
  const layouts = new Map([1, 2, 3, 4, 5, 6].map((count) => [count, {}]));
  const phases = kernels.map(({ workgroups }) => [{ pipeline: {}, workgroups }]);
  return { gpu, sizes, kernels: { kernels, phases, layouts } as unknown as Kernels };
}

for (const pageBytes of [2 ** 27, 2048]) {
  test(`WebGPU has buffers of as many bytes as were planned, of ${String(pageBytes)}`, async () => {
    const { gpu, sizes, kernels } = sizedGpu();
    const manifest = fixtureManifest();
    new Readback(gpu);
    const ring = sizes.length;
    await createArena(gpu, manifest, kernels, 100, pageBytes);
    const total = sizes.reduce((sum, size) => sum + size, UNIFORM_BYTES);
    const kind = { backend: "webgpu", threads: 1, pageBytes } as const;
    assert.equal(total, neededBytes(manifest, 100, kind));
    const pages = sizes.slice(ring);
    assert.ok(Math.max(...pages) <= pageBytes);
    assert.equal(pages.length > 1, pageBytes < 7168); // what the whole arena takes
  });
}

test("halves are counted in the bytes that an adapter stores them in", () => {
  const manifest = fixtureManifest();
  const { train } = manifest.programs;
  assert.ok(train);
  const small = train.slots.map(() => [256]);
  const mixed = { ...manifest, programs: { train: { ...train, half_slots: small } } };
  const bytes = (halves: boolean): number =>
    neededBytes(mixed, 1000, { backend: "webgpu", threads: 1, halves });
  const difference = planMemory({ ...mixed, programs: { train } }, 1000).arenaBytes
    - planMemory({ ...mixed, programs: { train: { ...train, slots: small } } }, 1000).arenaBytes;
  assert.ok(difference > 0);
  assert.equal(bytes(false) - bytes(true), difference);
});

test("a batch over the budget is refused, with the largest that fits", async () => {
  const trainer = await load({ memoryBytes: 200_000 });
  const error: unknown = await trainer.trainBatch(...samples(9000)).catch((e: unknown) => e);
  assert.ok(error instanceof OutOfMemoryError);
  const fitting = Number(/at most (\d+) samples/.exec(error.message)?.[1]);
  assert.ok(trainer.bytesFor(fitting) <= 200_000);
  assert.ok(trainer.bytesFor(fitting + 1) > 200_000);
  await rejects(trainer.trainBatch(...samples(fitting + 1)), OutOfMemoryError, /budget is 200000/);
  assert.equal((await trainer.trainBatch(...samples(fitting))).step, 1);
  await trainer.dispose();
  const tooLarge = load({ batchSize: 9000, memoryBytes: 200_000 });
  await rejects(tooLarge, OutOfMemoryError, /a batch of 9000/);
  await rejects(load({ memoryBytes: 0 }), InvalidInputError, /memoryBytes is 0/);
  const manifest = fixtureManifest();
  const kind = { backend: "wasm", threads: 1 } as const;
  const over = 10_000_000;
  assert.ok(neededBytes(manifest, over, kind) > DEFAULT_MEMORY_BYTES);
  await rejects(load({ batchSize: over }), OutOfMemoryError, /the budget is 268435456/);
});

test("the best batch size fits, and looking for it leaves no trace", async () => {
  const [trainer, other] = await Promise.all([load({ memoryBytes: 200_000 }), load()]);
  const data = samples(10);
  for (const one of [trainer, other]) await one.trainBatch(...data);
  const { batchSize, stepMs } = await trainer.bestBatchSize(...samples(3), { limit: 1 << 20 });
  assert.ok(trainer.bytesFor(batchSize) <= 200_000);
  assert.ok(Object.keys(stepMs).includes(String(batchSize)));
  assert.deepEqual(await trainer.exportCheckpoint(), await other.exportCheckpoint());
  assert.deepEqual(await trainer.trainBatch(...data), await other.trainBatch(...data));
  await Promise.all([trainer.dispose(), other.dispose()]);
});

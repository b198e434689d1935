import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, DataLoader, InvalidInputError, Trainer, type Callback, type Cursor, type FitEvent,
  type FitOptions,
} from "../src/index.ts";
import { decodeSafetensors, encodeSafetensors } from "../src/safetensors.ts";
import { BundleFormatError } from "../src/errors.ts";
import { fixtureSource, raises, rejects } from "./fixture.ts";

const SAMPLES = 50;
const x = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: SAMPLES }, (_, i) => i % 3);
const dataset = new ArrayDataset({ x, y, samples: SAMPLES });

const load = (memoryBytes?: number): Promise<Trainer> => Trainer.load(fixtureSource(), {
  backend: "wasm", threads: 1, ...(memoryBytes === undefined ? {} : { memoryBytes }),
});

const open = (batchSize: number | "auto" = "auto"): DataLoader =>
  new DataLoader(dataset, { batchSize, shuffle: true, seed: 5 });

async function events(
  trainer: Trainer, loader: DataLoader, options: FitOptions = {},
): Promise<FitEvent[]> {
  const found: FitEvent[] = [];
  for await (const event of trainer.fit(loader, options)) found.push(event);
  return found;
}

async function tensorsOf(trainer: Trainer): Promise<[string, Uint8Array][]> {
  const { tensors } = decodeSafetensors(await trainer.exportCheckpoint(), "a checkpoint");
  return [...tensors].map(([name, { data }]) => [name, data]);
}

test("a run finds its batch size first, and trains as if it had been given", async () => {
  const [trainer, other] = [await load(), await load()];
  const loader = open();
  const [first, ...rest] = await events(trainer, loader, { epochs: 3 });
  assert.ok(first?.kind === "batchSize");
  const { batchSize, stepMs, step } = first;
  assert.equal(step, 0);
  assert.ok(batchSize >= 1 && batchSize <= SAMPLES && batchSize in stepMs);
  assert.ok(rest.every(({ kind }) => kind !== "batchSize"));
  assert.equal(loader.batchSize, batchSize);
  await events(other, open(batchSize), { epochs: 3 });
  assert.equal(trainer.step, 3 * Math.ceil(SAMPLES / batchSize));
  assert.deepEqual(await tensorsOf(trainer), await tensorsOf(other));
  const again = await events(trainer, loader);
  assert.ok(again.every(({ kind }) => kind !== "batchSize"));
});

test("the batch size keeps to the memory budget", async () => {
  const probe = await load();
  const small = probe.bytesFor(1);
  const large = [...Array(SAMPLES).keys()].find((n) => probe.bytesFor(n + 1) > small) ?? SAMPLES;
  const trainer = await load(small);
  const loader = open();
  await events(trainer, loader);
  assert.ok(loader.batchSize <= large);
  assert.ok(trainer.bytesFor(loader.batchSize) <= small);
});

test("a run that is resumed takes its batch size again", async () => {
  const [whole, broken] = [await load(), await load()];
  const loader = open();
  // Small batches, so that an epoch has several steps.
  loader.choose(8);
  await events(whole, loader, { epochs: 3 });
  const same = open();
  same.choose(8);
  let run: Uint8Array | undefined;
  for await (const event of broken.fit(same, { epochs: 3 })) {
    if (event.kind !== "steps" || broken.step < 10) continue;
    run = await broken.exportCheckpoint();
    break;
  }
  const again = await load();
  await again.loadCheckpoint(run ?? new Uint8Array());
  const fresh = open();
  const found = await events(again, fresh, { epochs: 3, from: again.cursor });
  assert.ok(found.every(({ kind }) => kind !== "batchSize"));
  assert.equal(fresh.batchSize, 8);
  assert.deepEqual(await again.exportCheckpoint(), await whole.exportCheckpoint());
});

/** A trainer whose training moves to a GPU after the first epoch, and what searches find there. */
async function moving(onGpu: number): Promise<Trainer> {
  const trainer = await load();
  const { device } = trainer;
  const backend = (): "wasm" | "webgpu" => (trainer.step > 6 ? "webgpu" : "wasm");
  Object.defineProperty(trainer, "device", { get: () => ({ ...device, backend: backend() }) });
  trainer.bestBatchSize = () => {
    const batchSize = backend() === "webgpu" ? onGpu : 8;
    return Promise.resolve({ batchSize, backend: backend(), stepMs: { [batchSize]: 1 } });
  };
  return trainer;
}

test("training that has moved to the GPU has its batch size from the next epoch on", async () => {
  const trainer = await moving(20);
  const loader = open();
  const found = await events(trainer, loader, { epochs: 4 });
  const chosen = found.flatMap((event) => event.kind === "batchSize" || event.kind === "epoch"
    ? [[event.kind, event.epoch, event.step]] : []);
  assert.deepEqual(chosen, [
    ["batchSize", 0, 0], ["batchSize", 1, 7], ["epoch", 0, 7], ["epoch", 1, 10],
    ["epoch", 2, 13], ["epoch", 3, 16],
  ]);
  assert.equal(loader.batchSize, 20);
  // The same batches, by hand.
  const other = await load();
  await events(other, open(8));
  await events(other, open(20), { epochs: 4, from: { epoch: 1, batch: 0 } });
  assert.deepEqual(await tensorsOf(trainer), await tensorsOf(other));
});

test("a run takes the same batches again wherever it broke off around a new size", async () => {
  const run = await moving(20);
  const files: Uint8Array[] = [];
  const keep: Callback = {
    on: async () => { files.push(await run.exportCheckpoint()); return undefined; },
  };
  await events(run, open(), { epochs: 4, callbacks: [keep] });
  const whole = await tensorsOf(run);
  const places: Cursor[] = [];
  for (const file of files) {
    const again = await moving(20);
    await again.loadCheckpoint(file);
    places.push(again.cursor);
    await events(again, open(), { epochs: 4, from: again.cursor });
    assert.deepEqual(await tensorsOf(again), whole);
  }
  assert.ok(places.some(({ epoch, batch }) => epoch === 0 && batch > 0));
  assert.ok(places.some(({ epoch, batch }) => epoch === 1 && batch === 0));
  assert.ok(places.some(({ epoch, batch }) => epoch === 2 && batch > 0));
});

test("a size found for the GPU stays wherever a run goes on, and so does a given one", async () => {
  const run = await moving(20);
  let file: Uint8Array | undefined;
  for await (const event of run.fit(open(), { epochs: 3 })) {
    if (event.kind === "epoch" && event.epoch === 1) file = await run.exportCheckpoint();
  }
  for (const again of [await load(), await moving(25)]) {
    await again.loadCheckpoint(file ?? new Uint8Array());
    const loader = open();
    const found = await events(again, loader, { epochs: 4, from: again.cursor });
    assert.ok(found.every(({ kind }) => kind !== "batchSize"));
    assert.equal(loader.batchSize, 20);
  }
  const own = open();
  own.choose(5);
  await events(await moving(20), own, { epochs: 3 });
  assert.equal(own.batchSize, 5);
});

test("before it is chosen nothing can be known of the batches", async () => {
  const trainer = await load();
  const loader = open();
  raises(() => loader.batchSize, InvalidInputError, /"auto" and not chosen.*fit\(loader\)/s);
  raises(() => loader.length, InvalidInputError, /not chosen/);
  await rejects(trainer.evaluate(loader), InvalidInputError, /not chosen/);
  raises(() => open("large" as "auto"), InvalidInputError, /batchSize is large/);
});

test("a batch size in a record that is none is refused", async () => {
  const trainer = await load();
  await events(trainer, open());
  const { tensors, metadata } = decodeSafetensors(await trainer.exportCheckpoint(), "a checkpoint");
  for (const bad of [
    { batchSize: 0 }, { batchSize: 1.5 }, { batchSize: "8" }, { batchSizeFor: "gpu" },
  ]) {
    const run = { ...JSON.parse(metadata["run"] ?? "") as object, ...bad };
    const file = encodeSafetensors(tensors, { ...metadata, run: JSON.stringify(run) });
    await rejects(trainer.loadCheckpoint(file), BundleFormatError, /record of the run is damaged/);
  }
});

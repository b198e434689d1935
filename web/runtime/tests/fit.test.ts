import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, DataLoader, earlyStopping, InvalidInputError, Trainer, type Batch,
  type Fit, type FitEvent, type FitOptions,
} from "../src/index.ts";
import { decodeSafetensors } from "../src/safetensors.ts";
import { fixtureSource, rejects } from "./fixture.ts";

const SAMPLES = 50;
const x = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: SAMPLES }, (_, i) => i % 3);
const dataset = new ArrayDataset({ x, y, samples: SAMPLES });
const loader = new DataLoader(dataset, { batchSize: 8, shuffle: true, seed: 5 });

const load = (): Promise<Trainer> =>
  Trainer.load(fixtureSource(), { backend: "wasm", threads: 1 });

async function events(trainer: Trainer, options: FitOptions = {}): Promise<FitEvent[]> {
  const found: FitEvent[] = [];
  for await (const event of trainer.fit(loader, options)) found.push(event);
  return found;
}

/** The state of the run without its history. */
async function stateOf(trainer: Trainer): Promise<[string, Uint8Array][]> {
  const { tensors } = decodeSafetensors(await trainer.exportCheckpoint(), "a checkpoint");
  return [...tensors].filter(([name]) => name !== "hearth/losses")
    .map(([name, { data }]) => [name, data]);
}

async function drain(run: Fit): Promise<void> {
  const iterator = run[Symbol.asyncIterator]();
  while (!(await iterator.next()).done);
}

const steps = (found: readonly FitEvent[]) =>
  found.flatMap((event) => (event.kind === "steps" ? event.steps : []));

/** An iterable of the loader's batches, of which the one numbered `bad` has a wrong label. */
async function* spoilt(bad: number): AsyncGenerator<Batch> {
  let i = 0;
  for await (const batch of loader.epoch(0)) {
    yield i++ === bad ? { ...batch, y: new Int32Array(8).fill(7) } : batch;
  }
}

test("takes the same steps as trainBatch, bit for bit", async () => {
  const [one, other] = [await load(), await load()];
  const found = await events(one, { epochs: 3 });
  const losses: number[] = [];
  for (let epoch = 0; epoch < 3; epoch++) {
    for await (const batch of loader.epoch(epoch)) {
      losses.push((await other.trainBatch(batch.x, batch.y)).loss);
    }
  }
  assert.deepEqual(steps(found).map(({ loss }) => loss), losses);
  assert.deepEqual(steps(found).map(({ step }) => step), losses.map((_, i) => i + 1));
  assert.deepEqual(await stateOf(one), await stateOf(other));
  assert.equal(one.step, 21);
  const ends = found.filter(({ kind }) => kind === "epoch");
  assert.deepEqual(ends.map(({ epoch }) => epoch), [0, 1, 2]);
});

test("batches in memory that is used again train as batches in their own", async () => {
  const samples = 2048; // 32 KB: enough to be given back
  const sines = (k: number) =>
    Float32Array.from({ length: 4 * samples }, (_, i) => Math.sin(k * i));
  const labels = Int32Array.from({ length: samples }, (_, i) => i % 3);
  const batches = Array.from({ length: 7 }, (_, k) => ({ x: sines(k + 1), y: labels }));
  const endless = (count: number) =>
    Array.from({ length: count }, (_, i) => batches[i % 7] as Batch);
  const [one, other] = [await load(), await load()];
  const taken: (ArrayBuffer | undefined)[] = [];
  const take = one.memory.take.bind(one.memory);
  one.memory.take = (bytes) => {
    const buffer = take(bytes);
    taken.push(buffer);
    return buffer;
  };
  const found: FitEvent[] = [];
  for await (const event of one.fit(endless(400))) found.push(event);
  const losses: number[] = [];
  for (const { x: own, y: targets } of endless(400)) {
    losses.push((await other.trainBatch(own, targets)).loss);
  }
  assert.deepEqual(steps(found).map(({ loss }) => loss), losses);
  const again = taken.filter((buffer) => buffer !== undefined);
  assert.ok(again.length > 150, `${String(again.length)} of 400 batches`);
  assert.ok(new Set(again).size < 200, `${String(new Set(again).size)} buffers`);
  assert.deepEqual(batches.map((batch) => batch.x), batches.map((_, k) => sines(k + 1)));
});

test("many slices keep the order of their steps", async () => {
  const [one, other] = [await load(), await load()];
  const single = new DataLoader(dataset, { batchSize: 1, shuffle: true });
  let slices = 0;
  const schedule = (step: number): number => 1 / (9 + step);
  for await (const { kind } of one.fit(single, { epochs: 20, schedule })) {
    if (kind === "steps") slices++;
  }
  for (let step = 0; step < 1000; step++) {
    const [epoch, i] = [Math.floor(step / SAMPLES), step % SAMPLES];
    other.learningRate = schedule(step);
    const { x, y } = dataset.batch(single.order(epoch).subarray(i, i + 1));
    await other.trainBatch(x, y);
  }
  assert.ok(slices < 500, `${String(slices)} slices`);
  assert.deepEqual(await stateOf(one), await stateOf(other));
});

test("a schedule sets the rate of every step", async () => {
  const [one, other] = [await load(), await load()];
  const schedule = (step: number, epoch: number): number => 0.1 / (1 + step) + epoch;
  const found = await events(one, { epochs: 2, schedule });
  let step = 0;
  for (const epoch of [0, 1]) {
    for await (const batch of loader.epoch(epoch)) {
      other.learningRate = schedule(step++, epoch);
      await other.trainBatch(batch.x, batch.y);
    }
  }
  assert.deepEqual(await one.exportWeights(), await other.exportWeights());
  assert.deepEqual(steps(found).map((s) => s.learningRate),
    Array.from({ length: 14 }, (_, i) => schedule(i, i < 7 ? 0 : 1)));
  assert.equal(one.learningRate, schedule(13, 1));
});

test("validation weighs batches by their samples", async () => {
  const trainer = await load();
  const whole = await trainer.evaluateBatch(x, y);
  const found = await trainer.evaluate(loader);
  assert.ok(Math.abs(found.loss - whole.loss) < 1e-6 * whole.loss);
  const event = (await events(trainer, { validate: loader })).at(-1);
  assert.equal(event?.kind, "validation");
});

test("leaving the loop ends the run after the steps under way", async () => {
  const trainer = await load();
  for await (const event of trainer.fit(loader, { epochs: 100 })) {
    if (event.kind === "epoch") break;
  }
  assert.equal(trainer.step, 7);
  assert.equal((await trainer.trainBatch(x, y)).step, 8);
});

test("a signal ends the loop with its reason", async () => {
  const trainer = await load();
  const abort = new AbortController();
  const reason = new Error("enough");
  await assert.rejects(async () => {
    for await (const event of trainer.fit(loader, { epochs: 9, signal: abort.signal })) {
      if (event.kind === "epoch" && event.epoch === 1) abort.abort(reason);
    }
  }, reason);
  assert.equal(trainer.step, 14);
});

test("a pause lets the steps under way end and starts no other", async () => {
  const trainer = await load();
  const run = trainer.fit(loader, { epochs: 4 });
  let atPause = -1;
  let resumed = false as boolean;
  for await (const event of run) {
    if (atPause >= 0 && !resumed) assert.equal(event.kind, "steps");
    if (event.kind !== "epoch" || event.epoch !== 1) continue;
    run.pause();
    assert.ok(run.paused);
    atPause = trainer.step;
    setTimeout(() => {
      assert.equal(trainer.step, atPause);
      resumed = true;
      run.resume();
    }, 20);
  }
  assert.ok(resumed);
  assert.deepEqual([atPause, trainer.step], [14, 28]);
});

test("a bad batch ends the run there, and what came before counts", async () => {
  const [trainer, other] = [await load(), await load()];
  const reported: number[] = [];
  const run = async (): Promise<void> => {
    for await (const event of trainer.fit(spoilt(4))) {
      if (event.kind === "steps") reported.push(...event.steps.map(({ step }) => step));
    }
  };
  await rejects(run(), InvalidInputError, /y\[0\] is 7/);
  assert.deepEqual(reported, [1, 2, 3, 4]);
  assert.equal(trainer.step, 4);
  let i = 0;
  for await (const batch of loader.epoch(0)) {
    if (i++ < 4) await other.trainBatch(batch.x, batch.y);
  }
  assert.deepEqual(await trainer.exportWeights(), await other.exportWeights());
  await events(trainer); // a new run is not held up by the old one
  assert.equal(trainer.step, 11);
});

test("early stopping ends the run and gives back the best weights", async () => {
  const trainer = await load();
  let best: { loss: number; weights: Uint8Array } = { loss: Infinity, weights: new Uint8Array() };
  let validations = 0;
  const options = {
    epochs: 50, validate: loader, schedule: (step: number) => (step < 21 ? 0.05 : 1),
    callbacks: [earlyStopping({ patience: 2 })],
  };
  for await (const event of trainer.fit(loader, options)) {
    if (event.kind !== "validation") continue;
    validations++;
    if (event.loss < best.loss) {
      best = { loss: event.loss, weights: await trainer.exportWeights() };
    }
  }
  assert.ok(validations < 50);
  assert.deepEqual(await trainer.exportWeights(), best.weights);
});

test("what cannot be trained on is refused before anything happens", async () => {
  const trainer = await load();
  assert.throws(() => trainer.fit(loader, { epochs: 1.5 }), InvalidInputError);
  assert.throws(() => trainer.fit(spoilt(0), { epochs: 2 }), /read once only/);
  const run = trainer.fit(loader);
  await drain(run);
  await rejects(run[Symbol.asyncIterator]().next(), InvalidInputError, /a run trains once/);
  const unknown = { validate: loader, callbacks: [earlyStopping({ monitor: "f1" })] };
  await rejects(events(trainer, unknown), InvalidInputError, /has no "f1"; it has loss/);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, DataLoader, findLearningRate, InvalidInputError, Trainer, type Batch,
} from "../src/index.ts";
import { fixtureSource, rejects } from "./fixture.ts";

const SAMPLES = 50;
const x = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: SAMPLES }, (_, i) => i % 3);
const dataset = new ArrayDataset({ x, y, samples: SAMPLES });
const loader = new DataLoader(dataset, { batchSize: 8, shuffle: true, seed: 5 });

const load = (): Promise<Trainer> =>
  Trainer.load(fixtureSource(), { backend: "wasm", threads: 1 });

/** A trainer in the middle of its second epoch. */
async function begun(): Promise<Trainer> {
  const trainer = await load();
  const schedule = (step: number): number => 0.1 / (1 + step);
  for await (const event of trainer.fit(loader, { epochs: 2, schedule, validate: loader })) {
    if (event.kind === "steps" && trainer.step > 9) break;
  }
  return trainer;
}

/** All that a person can see of a run. */
async function everythingOf(trainer: Trainer): Promise<unknown[]> {
  const { step, cursor, history, learningRate } = trainer;
  return [step, cursor, structuredClone(history), learningRate, await trainer.exportCheckpoint()];
}

/** A trainer whose loss is a function of the rate alone; its run is the number of its steps. */
function scripted(lossAt: (rate: number) => number): Trainer {
  const fake = {
    learningRate: 0.5, log: { record: {} }, step: 7,
    exportCheckpoint: () => Promise.resolve(new Uint8Array([fake.step])),
    loadCheckpoint: ([step = 0]: Uint8Array) => {
      Object.assign(fake, { step, learningRate: 0.5 });
      return Promise.resolve();
    },
    trainBatch: () => {
      fake.step++;
      return Promise.resolve({ loss: lossAt(fake.learningRate), metrics: {}, step: fake.step });
    },
  };
  return fake as unknown as Trainer;
}

test("rates grow by a constant factor, losses are those of training at them", async () => {
  const [trainer, other] = [await begun(), await load()];
  await other.loadCheckpoint(await trainer.exportCheckpoint()); // runs end where slices do
  const before = await everythingOf(trainer);
  const found = await findLearningRate(trainer, loader, { from: 1e-3, to: 0.1, steps: 12 });
  assert.deepEqual(await everythingOf(trainer), before);
  const losses: number[] = [];
  for (const epoch of [0, 1]) {
    for await (const batch of loader.epoch(epoch)) {
      other.learningRate = 1e-3 * 100 ** (losses.length / 11);
      if (losses.length < 12) losses.push((await other.trainBatch(batch.x, batch.y)).loss);
    }
  }
  assert.deepEqual(found.losses, losses);
  assert.equal(found.rates[0], 1e-3);
  assert.ok(Math.abs((found.rates[11] ?? 0) - 0.1) < 1e-15);
  const [first = 0, second = 0] = losses;
  const means = [first, (0.98 * first + second) / 1.98];
  means.forEach((mean, i) => {
    assert.ok(Math.abs((found.smoothed[i] ?? 0) - mean) < 1e-12);
  });
});

test("suggests where the loss falls fastest, and ends where it diverges", async () => {
  // Falls like a logistic curve around 1e-3, explodes above 1.
  const loss = (rate: number): number =>
    1 + 1 / (1 + (rate / 1e-3) ** 2) + (rate > 1 ? 100 * rate : 0);
  const options = { from: 1e-6, to: 100, steps: 81, smoothing: 0 };
  const found = await findLearningRate(scripted(loss), loader, options);
  assert.ok(Math.abs(Math.log10(found.suggestion ?? 0) + 3) < 0.11, String(found.suggestion));
  assert.ok((found.rates.at(-1) ?? 0) > 1 && found.rates.length < 65);
  assert.deepEqual(found.smoothed, found.losses);
  const flat = await findLearningRate(scripted(() => 1), loader, options);
  assert.equal(flat.suggestion, undefined);
  assert.equal(flat.rates.length, 81);
  // A negative loss that rises by less than the limit does not end it.
  const negative = await findLearningRate(scripted((rate) => rate - 80), loader, options);
  assert.equal(negative.rates.length, 81);
});

test("a loss that is not finite ends the sweep without an error", async () => {
  const trainer = await begun();
  const before = await everythingOf(trainer);
  const options = { from: 1, to: 1e38, divergence: Infinity };
  const found = await findLearningRate(trainer, loader, options);
  assert.deepEqual(await everythingOf(trainer), before);
  assert.ok(found.rates.length > 3 && found.rates.length < 100, String(found.rates.length));
  assert.ok(found.losses.every(Number.isFinite));
  assert.ok(Number.isFinite((await trainer.trainBatch(x, y)).loss));
});

test("an abort and a bad batch leave the run as before", async () => {
  const trainer = await begun();
  const before = await everythingOf(trainer);
  const abort = new AbortController();
  const aborting = {
    length: 7,
    async *epoch(epoch: number): AsyncGenerator<Batch> {
      for await (const batch of loader.epoch(epoch)) {
        if (epoch === 1) abort.abort(new Error("enough"));
        yield batch;
      }
    },
  };
  const { signal } = abort;
  await assert.rejects(findLearningRate(trainer, aborting, { signal }), /enough/);
  assert.deepEqual(await everythingOf(trainer), before);
  const spoilt = [{ x, y }, { x, y }, { x, y: new Int32Array(SAMPLES).fill(9) }];
  await rejects(findLearningRate(trainer, spoilt), InvalidInputError, /9/);
  assert.deepEqual(await everythingOf(trainer), before);
  await rejects(findLearningRate(trainer, loader.epoch(0)), InvalidInputError, /after 7 of 100/);
  await rejects(findLearningRate(trainer, []), InvalidInputError, /after 0 of 100/);
  assert.deepEqual(await everythingOf(trainer), before);
});

test("ranges that are none are refused before anything is trained", async () => {
  const trainer = scripted(() => { throw new Error("must not train"); });
  for (const [options, message] of [
    [{ from: 0 }, /from is 0, expected a learning rate above 0/],
    [{ from: NaN }, /from is NaN/],
    [{ from: 1, to: 1 }, /to is 1, expected a rate above from, 1/],
    [{ to: Infinity }, /to is Infinity/],
    [{ steps: 1 }, /steps is 1, expected a whole number from 2/],
    [{ steps: 9.5 }, /steps is 9.5/],
    [{ smoothing: 1 }, /smoothing is 1, expected 0 or more, and below 1/],
    [{ divergence: 1 }, /divergence is 1, expected a factor above 1/],
  ] as const) {
    await rejects(findLearningRate(trainer, loader, options), InvalidInputError, message);
  }
});

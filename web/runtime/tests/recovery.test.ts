import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, DataLoader, NumericalInstabilityError, Trainer, type Batch, type FitEvent,
  type FitOptions,
} from "../src/index.ts";
import { LossWatch } from "../src/loss-watch.ts";
import { decodeSafetensors } from "../src/safetensors.ts";
import { fixtureSource, rejects } from "./fixture.ts";

const SAMPLES = 50;
const x = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: SAMPLES }, (_, i) => i % 3);
const dataset = new ArrayDataset({ x, y, samples: SAMPLES });
const loader = new DataLoader(dataset, { batchSize: 5, shuffle: true, seed: 2 });

const load = (): Promise<Trainer> =>
  Trainer.load(fixtureSource(), { backend: "wasm", threads: 1 });

async function run(trainer: Trainer, options: FitOptions, from: Batches = loader) {
  const events: FitEvent[] = [];
  for await (const event of trainer.fit(from, options)) events.push(event);
  return events;
}
type Batches = Parameters<Trainer["fit"]>[0];

const recoveries = (events: readonly FitEvent[]) =>
  events.flatMap((event) => (event.kind === "recovery" ? [event] : []));

/** The tensors of the run without its history. */
async function stateOf(trainer: Trainer): Promise<[string, Uint8Array][]> {
  const { tensors } = decodeSafetensors(await trainer.exportCheckpoint(), "a checkpoint");
  return [...tensors].filter(([name]) => name !== "hearth/losses")
    .map(([name, { data }]) => [name, data]);
}

/** A loader whose batch `at` of epoch 0 is so large that its loss overflows. */
function poisoned(at: number): Batches {
  return {
    length: loader.length,
    async *epoch(epoch: number, skip = 0): AsyncGenerator<Batch> {
      let i = skip;
      for await (const batch of loader.epoch(epoch, skip)) {
        const isBad = epoch === 0 && i++ === at;
        yield isBad ? { ...batch, x: new Float32Array(20).fill(3e38) } : batch;
      }
    },
  };
}

test("a rate that diverges is lowered until the run converges, with every step exact", async () => {
  const [trainer, again, other] = [await load(), await load(), await load()];
  const schedule = (step: number): number => 8 / (1 + step / 100);
  const options = { epochs: 12, schedule, recovery: { everySteps: 10 } };
  const events = await run(trainer, options);
  await run(again, options);
  assert.deepEqual(await trainer.exportCheckpoint(), await again.exportCheckpoint());
  const found = recoveries(events);
  assert.ok(found.length > 0);
  assert.deepEqual(found.map(({ diagnosis }) => diagnosis?.layer), found.map(() => "linear"));
  assert.equal(trainer.step, 120);
  assert.equal(trainer.history.losses.length, 120);
  assert.ok(trainer.history.losses.every(Number.isFinite));
  // The same steps by hand, at the rates that were reported last for each.
  const rates = new Map<number, number>();
  for (const event of events) {
    if (event.kind !== "steps") continue;
    for (const { step, learningRate } of event.steps) rates.set(step, learningRate);
  }
  const scales = [...rates].map(([step, rate]) => rate / schedule(step - 1));
  assert.ok(Math.min(...scales) < 1);
  let step = 0;
  const losses: number[] = [];
  for (let epoch = 0; epoch < 12; epoch++) {
    for await (const batch of loader.epoch(epoch)) {
      const scale = scales[step++] ?? NaN;
      other.learningRate = schedule(step - 1) * Number(scale.toPrecision(6));
      losses.push((await other.trainBatch(batch.x, batch.y)).loss);
    }
  }
  assert.deepEqual(await stateOf(trainer), await stateOf(other));
  assert.deepEqual(trainer.history.losses, losses);
});

test("a batch that fails again is left out, and the run counts on", async () => {
  const trainer = await load();
  const options = { epochs: 2, schedule: () => 0.05, recovery: { everySteps: 4 } };
  const events = await run(trainer, options, poisoned(6));
  const found = recoveries(events);
  assert.deepEqual(found.map(({ step, skipped, restored }) => [step, skipped, restored]),
    [[7, false, 4], [7, true, 4]]);
  assert.match(found[0]?.diagnosis?.finding ?? "", /loss function gives it for finite outputs/);
  assert.equal(trainer.step, 19);
  assert.deepEqual(trainer.cursor, { epoch: 2, batch: 0 });
  assert.ok((await trainer.evaluate(loader)).loss < 1);
});

test("without help a run ends in the last good state and says what went first", async () => {
  const trainer = await load();
  const schedule = (step: number): number => (step === 23 ? 1e30 : 0.05);
  const options = { epochs: 9, schedule, recovery: { attempts: 2, everySteps: 10 } };
  const error = await run(trainer, options).catch((e: unknown) => e);
  assert.ok(error instanceof NumericalInstabilityError);
  assert.equal(error.where, "linear");
  assert.match(error.message, /loss of step 25 is (Infinity|NaN); 2 lower learning rates did not/);
  assert.match(error.message, /linear went first, in step 25: its largest value grew/);
  assert.equal(error.step, trainer.step);
  assert.equal(trainer.step, 10); // the state of step 20 had not proved itself yet
  assert.deepEqual(trainer.cursor, { epoch: 1, batch: 0 });
  const other = await load();
  await run(other, { schedule });
  assert.deepEqual(await stateOf(trainer), await stateOf(other));
  await run(trainer, { epochs: 3, from: trainer.cursor, schedule: () => 0.05 });
  assert.equal(trainer.step, 30);
});

test("recovery: false ends the run at the step, as trainBatch does", async () => {
  const trainer = await load();
  const schedule = (step: number): number => (step === 3 ? 1e30 : 0.05);
  await rejects(run(trainer, { schedule, recovery: false }), NumericalInstabilityError,
    /the loss of step 5 is/);
  assert.equal(trainer.step, 5);
});

test("the lower rate holds for a run that was resumed from a checkpoint", async () => {
  const [trainer, again] = [await load(), await load()];
  const options = { epochs: 6, schedule: () => 8, recovery: { everySteps: 10 } };
  for await (const event of trainer.fit(loader, options)) {
    if (event.kind === "recovery") break;
  }
  await run(trainer, { ...options, epochs: trainer.cursor.epoch + 1, from: trainer.cursor });
  await again.loadCheckpoint(await trainer.exportCheckpoint());
  const { cursor } = again;
  const events = await run(again, { ...options, epochs: cursor.epoch + 1, from: cursor });
  const [first] = events;
  assert.ok(first?.kind === "steps" && (first.steps[0]?.learningRate ?? 8) < 8);
});

test("bad options of recovery are refused by name", async () => {
  const trainer = await load();
  for (const [recovery, text] of [
    [{ attempts: -1 }, /recovery.attempts is -1/], [{ factor: 0 }, /recovery.factor is 0/],
    [{ factor: 2 }, /recovery.factor is 2/], [{ everySteps: 0.5 }, /recovery.everySteps is 0.5/],
    [{ explosion: NaN }, /recovery.explosion is NaN/], [{ spike: -3 }, /recovery.spike is -3/],
  ] as const) {
    assert.throws(() => trainer.fit(loader, { recovery }), text);
  }
});

test("a spike is an event, and taken back where that is asked for", async () => {
  const outliers = (): Batches => ({
    length: loader.length,
    async *epoch(epoch: number): AsyncGenerator<Batch> {
      let i = 0;
      for await (const batch of loader.epoch(epoch)) {
        yield epoch === 3 && i++ === 4 ? { ...batch, x: new Float32Array(20).fill(50) } : batch;
      }
    },
  });
  const schedule = (): number => 1e-4;
  const [told, back] = [await load(), await load()];
  const spikes = (await run(told, { epochs: 4, schedule }, outliers()))
    .filter(({ kind }) => kind === "spike");
  assert.deepEqual(spikes.map((event) => "step" in event && event.step), [35]);
  assert.equal(told.step, 40);
  const recovery = { rollBackSpikes: true, everySteps: 10 };
  const found = recoveries(await run(back, { epochs: 4, schedule, recovery }, outliers()));
  assert.deepEqual(found.map(({ step, skipped }) => [step, skipped]), [[35, false], [35, true]]);
  assert.equal(back.step, 39);
});

test("the watch forgives noise and a new level, and not what is far beyond", () => {
  const watch = new LossWatch({ explosion: 1000, deviations: 8, rollBackSpikes: false });
  const noise = (i: number): number => 2 + Math.sin(12.9898 * i) / 2;
  for (let i = 0; i < 500; i++) assert.deepEqual(watch.note(noise(i)), { isExploded: false });
  assert.ok((watch.note(9).spike ?? 0) > 8);
  assert.ok(watch.note(3000).isExploded);
  for (let i = 0; i < 300; i++) watch.note(noise(i) + 6);
  assert.deepEqual(watch.note(8), { isExploded: false });
});

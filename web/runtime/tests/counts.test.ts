/** Metrics over batches of different sizes: numbers are averaged by samples, counts are summed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, DataLoader, earlyStopping, InvalidInputError, Trainer, type FitEvent,
} from "../src/index.ts";
import { addCounts, type Counts } from "../src/counts.ts";
import { monitored } from "../src/monitor.ts";
import type { BundleSource } from "../src/bundle.ts";
import {
  encode, fixtureSource, manifestJson, raises, refusesManifest, rejects,
} from "./fixture.ts";

const SAMPLES = 23;
const x = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: SAMPLES }, (_, i) => i % 3);
const dataset = new ArrayDataset({ x, y, samples: SAMPLES });
const loader = new DataLoader(dataset, { batchSize: 10 }); // 10, 10 and 3

/** The parameters [3, 4]: the same for every batch; as a metric of the fixture. */
const WEIGHT = { name: "weight", role: "metric", dtype: "float32", shape: [3, 4] };

function counting(): BundleSource {
  const manifest = manifestJson() as {
    buffers: unknown[]; programs: { evaluate: { outputs: unknown[] } };
  };
  const { outputs } = manifest.programs.evaluate;
  outputs.push({ ...WEIGHT, buffer: manifest.buffers.length });
  manifest.buffers.push({ dtype: "float32", shape: [3, 4], offset: 0 });
  return fixtureSource({ "manifest.json": encode(manifest) });
}

const load = (): Promise<Trainer> => Trainer.load(counting(), { backend: "wasm", threads: 1 });

test("counts of a batch have their shape, and leave the numbers alone", async () => {
  const trainer = await load();
  const { loss, metrics, counts } = await trainer.evaluateBatch(x, y);
  assert.deepEqual(metrics, { mean_square: loss });
  const weight = (await trainer.run("evaluate", { x, y }))["weight"] ?? [];
  assert.ok(weight[0] !== 0);
  assert.deepEqual(counts, {
    weight: { shape: [3, 4], values: Float64Array.from(weight, Number) },
  });
});

test("over ragged batches counts are summed and numbers averaged by samples", async () => {
  const trainer = await load();
  const whole = await trainer.evaluateBatch(x, y);
  const one = whole.counts["weight"]?.values ?? new Float64Array(0);
  const found = await trainer.evaluate(loader);
  assert.deepEqual(found.counts, {
    weight: { shape: [3, 4], values: one.map((value) => value + value + value) },
  });
  assert.ok(Math.abs(found.loss - whole.loss) < 1e-6 * whole.loss);
  assert.deepEqual(found.metrics, { mean_square: found.loss });
});

test("a validation of fit has its counts, its history has not", async () => {
  const trainer = await load();
  const events: FitEvent[] = [];
  for await (const event of trainer.fit(loader, { validate: loader })) events.push(event);
  const validation = events.find((event) => event.kind === "validation");
  assert.deepEqual(validation?.counts, (await trainer.evaluate(loader)).counts);
  const { validations } = trainer.history;
  assert.deepEqual(validations.map((kept) => Object.keys(kept)), [["step", "loss", "metrics"]]);
});

test("whole numbers add up beyond what float32 can hold", () => {
  const total: Counts = {};
  for (const value of [2 ** 24, 1, 1]) {
    addCounts(total, { n: { shape: [1], values: Float64Array.of(value) } });
  }
  assert.deepEqual(total, { n: { shape: [1], values: Float64Array.of(2 ** 24 + 2) } });
});

test("counts cannot be monitored", async () => {
  const trainer = await load();
  const run = trainer.fit(loader, {
    validate: loader, callbacks: [earlyStopping({ monitor: "weight" })],
  });
  const drain = async (): Promise<void> => {
    const iterator = run[Symbol.asyncIterator]();
    while (!(await iterator.next()).done);
  };
  await rejects(drain(), InvalidInputError,
    /"weight" is no number but counts \[3, 4\][^]*one of loss, mean_square/);
  const scalars = { loss: 1, metrics: {} };
  raises(() => monitored(scalars, "f1"), InvalidInputError, /no "f1"; it has loss/);
});

test("a metric of another type, or as large as the batch, is refused", () => {
  const outputs = ["programs", "evaluate", "outputs", 2];
  refusesManifest([...outputs, "dtype"], "int32", /outputs\[2\]\.dtype: a metric is float32/);
  refusesManifest(["programs", "evaluate", "outputs", 1, "role"], "metric",
    /outputs\[1\]\.shape: the shape of a metric does not depend on the batch/);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, DataLoader, earlyStopping, InvalidInputError, reduceOnPlateau, saving, schedules,
  Subset, Trainer,
} from "../src/index.ts";
import { fixtureSource, raises, rejects } from "./fixture.ts";

const x = new Float32Array(40);
const y = new Int32Array(10);
const dataset = new ArrayDataset({ x, y, samples: 10 });
const loader = new DataLoader(dataset, { batchSize: 5 });

/** The same function for arguments of any type: these are mistakes of untyped pages. */
function loose<T>(call: (...given: never[]) => T): (...given: unknown[]) => T {
  return call as (...given: unknown[]) => T;
}

const { constant, linear, step, multiStep, exponential, polynomial, scheduled } = schedules;
const { cosineAnnealing, cosineAnnealingWarmRestarts, oneCycle, sequential } = schedules;
const rate = constant();
const OPTIONS: [() => unknown, RegExp][] = [
  [() => constant({ factor: -1 }), /factor is -1/],
  [() => constant({ total_iters: 0.5 }), /total_iters is 0.5/],
  [() => linear({ total_iters: 0 }), /total_iters is 0/],
  [() => linear({ start_factor: 0 }), /start_factor is 0, expected a number above 0/],
  [() => step({ step_size: 0 }), /step_size is 0/],
  [() => loose(step)({}), /step_size is undefined/],
  [() => multiStep({ milestones: [3, -1] }), /milestones is -1/],
  [() => exponential({ gamma: NaN }), /gamma is NaN/],
  [() => polynomial({ total_iters: 0 }), /total_iters is 0/],
  [() => polynomial({ power: -2 }), /power is -2/],
  [() => cosineAnnealing({ T_max: 0 }), /T_max is 0/],
  [() => cosineAnnealingWarmRestarts({ T_0: 4, T_mult: 0.5 }), /T_mult is 0.5/],
  [() => oneCycle({ max_lr: 0, total_steps: 9 }), /max_lr is 0/],
  [() => oneCycle({ max_lr: 1, total_steps: 9, pct_start: 2 }), /pct_start is 2.* up to 1/],
  [() => loose(oneCycle)({ max_lr: 1, total_steps: 9, anneal_strategy: "sin" }),
    /anneal_strategy is "sin", expected "cos" or "linear"/],
  [() => sequential([rate, rate], []), /2 rates need 1 milestones/],
  [() => scheduled(rate, -1), /base is -1/],
  [() => loose(scheduled)(rate, 1, "day"), /interval is "day"/],
  [() => loose(scheduled)(0.1, 1), /rate is 0.1, expected a function/],
  [() => earlyStopping({ patience: -1 }), /patience is -1/],
  [() => earlyStopping({ minDelta: NaN }), /minDelta is NaN/],
  [() => loose(earlyStopping)({ mode: "least" }), /mode is "least", expected "min" or "max"/],
  [() => reduceOnPlateau({ factor: 1 }), /factor is 1/],
  [() => reduceOnPlateau({ patience: 1.5 }), /patience is 1.5/],
  [() => reduceOnPlateau({ min_lr: -1 }), /min_lr is -1/],
  [() => loose(reduceOnPlateau)({ threshold_mode: "both" }), /threshold_mode is "both"/],
  [() => saving("run", { keep: 0 }), /keep is 0/],
  [() => saving("run", { everySteps: 0 }), /everySteps is 0/],
  [() => saving("run", { everyEpochs: NaN }), /everyEpochs is NaN/],
  [() => new DataLoader(dataset, { batchSize: 0 }), /batchSize is 0/],
  [() => new DataLoader(dataset, { seed: -1 }), /seed is -1/],
  [() => new ArrayDataset({ x, y, samples: 0 }), /samples is 0/],
  [() => new ArrayDataset({ x, y, samples: 7 }), /x has 40 values/],
  [() => new Subset(dataset, Uint32Array.of(10)), /sample 10 of 10/],
];

test("options that cannot be are refused at once, by name", () => {
  for (const [call, text] of OPTIONS) raises(call, InvalidInputError, text);
});

test("a trainer refuses wrong arguments before anything happens, by name", async () => {
  const trainer = await Trainer.load(fixtureSource(), { backend: "wasm", threads: 1 });
  const fit = (options: Record<string, unknown>, batches: unknown = loader) =>
    (): unknown => loose(trainer.fit.bind(trainer))(batches, options);
  const cases: [() => unknown, RegExp][] = [
    [fit({ epochs: -1 }), /epochs is -1/],
    [fit({ from: { epoch: 0.5, batch: 0 } }), /from.epoch is 0.5/],
    [fit({ from: { epoch: 0, batch: -1 } }), /from.batch is -1/],
    [fit({ validate: 7 }), /validate: 7 gives no batches/],
    [fit({ schedule: 0.1 }), /schedule is 0.1, expected a function/],
    [fit({}, "data"), /the batches: data gives no batches/],
    [() => { trainer.learningRate = -1; }, /the learning rate is -1/],
  ];
  for (const [call, text] of cases) raises(call, InvalidInputError, text);
  const waits: [Promise<unknown>, RegExp][] = [
    [trainer.trainBatch(x.slice(1), y), /x has 39|x: 39|39 values/],
    [trainer.trainBatch(x, y.slice(1)), /y/],
    [trainer.trainBatch(x), /y: 0 arrays given/],
    [trainer.trainBatch(x.map(() => NaN), y), /x.*NaN/],
    [trainer.trainBatch(x, y.map(() => 9)), /y\[0\] is 9/],
    [loose(trainer.trainBatch.bind(trainer))("x", y), /x/],
    [trainer.predict(new Float32Array(0)), /x/],
    [loose(trainer.exportWeights.bind(trainer))("onnx"), /no weight format "onnx"/],
    [loose(trainer.loadWeights.bind(trainer))(7), /Uint8Array, ArrayBuffer or string/],
    [loose(trainer.loadCheckpoint.bind(trainer))([]), /Uint8Array, ArrayBuffer or string/],
    [trainer.saveCheckpoint(""), /name of a checkpoint is ""/],
    [trainer.evaluate([]), /no batch to evaluate/],
    [loose(trainer.evaluate.bind(trainer))(5), /the batches: 5 gives no batches/],
    [trainer.run("train", { z: x }), /no input "z"/],
  ];
  for (const [wait, text] of waits) await rejects(wait, InvalidInputError, text);
  assert.equal(trainer.step, 0);
  assert.equal((await trainer.trainBatch(x, y)).step, 1);
});

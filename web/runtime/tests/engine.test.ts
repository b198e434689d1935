import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine } from "../src/engine.ts";
import { BundleFormatError, NumericalInstabilityError } from "../src/errors.ts";
import {
  BackendError, InvalidInputError, OutOfMemoryError, Trainer, type TrainerOptions,
} from "../src/index.ts";
import { decodeSafetensors, encodeSafetensors } from "../src/safetensors.ts";
import type { Session } from "../src/session.ts";
import {
  changedSource, encode, fixtureFile, fixtureSource, manifestJson, raises, rejects,
} from "./fixture.ts";

const load = (options: TrainerOptions = {}): Promise<Trainer> =>
  Trainer.load(fixtureSource(), { backend: "wasm", ...options });
const x = Float32Array.from({ length: 40 }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: 10 }, (_, i) => (i === 4 ? -100 : i % 3));

/** The fixture's model in float64: the loss and the gradients of a batch. */
function reference(weight: number[], bias: number[]) {
  const classWeight = [1, 2, 0.5];
  const gradient = { weight: new Array<number>(12).fill(0), bias: [0, 0, 0] };
  let loss = 0;
  y.forEach((label, b) => {
    if (label < 0) return;
    const scale = (classWeight[label] ?? 0) / (3 * y.length);
    for (let k = 0; k < 3; k++) {
      let r = (bias[k] ?? 0) - (k === label ? 1 : 0);
      for (let f = 0; f < 4; f++) r += (weight[4 * k + f] ?? 0) * (x[4 * b + f] ?? 0);
      loss += r * r * scale;
      gradient.bias[k] = (gradient.bias[k] ?? 0) + 2 * r * scale;
      for (let f = 0; f < 4; f++) {
        const i = 4 * k + f;
        gradient.weight[i] = (gradient.weight[i] ?? 0) + 2 * r * scale * (x[4 * b + f] ?? 0);
      }
    }
  });
  return { loss, gradient };
}

function weightsOf(bytes: Uint8Array): { weight: number[]; bias: number[] } {
  const values = [...new Float32Array(bytes.slice(bytes.length - 68, bytes.length - 8).buffer)];
  return { weight: values.slice(0, 12), bias: values.slice(12) };
}

function close(ours: ArrayLike<number>, wanted: readonly number[]): void {
  const scale = Math.max(...wanted.map(Math.abs));
  wanted.forEach((v, i) => {
    assert.ok(Math.abs((ours[i] ?? NaN) - v) <= 1e-5 * scale, `${String(ours[i])} vs ${String(v)}`);
  });
}

test("five steps, their losses and gradients agree with float64", async () => {
  const trainer = await load();
  const { weight, bias } = weightsOf(await trainer.exportWeights());
  const momentum = { weight: new Array<number>(12).fill(0), bias: [0, 0, 0] };
  for (let step = 1; step <= 5; step++) {
    const { loss, gradient } = reference(weight, bias);
    const ours = await trainer.gradients(x, y);
    close(ours["linear.weight"] ?? [], gradient.weight);
    close(ours["linear.bias"] ?? [], gradient.bias);
    const result = await trainer.trainBatch(x, y);
    close([result.loss], [loss]);
    assert.equal(result.step, step);
    for (const [values, m, g] of [
      [weight, momentum.weight, gradient.weight], [bias, momentum.bias, gradient.bias],
    ] as const) {
      g.forEach((v, i) => {
        m[i] = 0.9 * (m[i] ?? 0) + v;
        values[i] = (values[i] ?? 0) - 0.1 * m[i];
      });
    }
  }
  const trained = weightsOf(await trainer.exportWeights());
  close(trained.weight, weight);
  close(trained.bias, bias);
  await trainer.dispose();
});

test("untouched weights leave as they came, and the user's arrays stay whole", async () => {
  const trainer = await load();
  await trainer.evaluateBatch(x, y);
  await trainer.gradients(x, y);
  await trainer.predict(x);
  assert.deepEqual(await trainer.exportWeights(), fixtureFile("weights.safetensors"));
  assert.equal(x.length, 40);
});

test("results do not depend on the batch before, larger or smaller", async () => {
  const trainer = await load({ batchSize: 2 });
  assert.equal(trainer.device.batchSize, 5); // the recorded step's
  const whole = await trainer.predict(x);
  assert.equal(trainer.device.batchSize, 10);
  const parts = [...await trainer.predict(x.slice(0, 12)), ...await trainer.predict(x.slice(12))];
  assert.deepEqual([...whole], parts);
  const many = new Float32Array(4 * 50_000);
  assert.equal((await trainer.predict(many)).length, 150_000);
  assert.deepEqual([...await trainer.predict(x)], [...whole]);
});

test("a checkpoint continues the run bit for bit, int64 and learning rate included", async () => {
  const one = await load();
  one.learningRate = 0.05;
  await one.trainBatch(x, y);
  const checkpoint = await one.exportCheckpoint();
  const two = await load({ seed: 3n });
  await two.loadCheckpoint(checkpoint);
  assert.equal(two.learningRate, 0.05);
  assert.equal(two.step, 1);
  assert.deepEqual(await one.trainBatch(x, y), await two.trainBatch(x, y));
  assert.deepEqual(await one.exportCheckpoint(), await two.exportCheckpoint());
  const weights = await two.exportWeights();
  assert.equal(new DataView(weights.buffer).getBigInt64(weights.length - 8, true), 2n);
});

test("a bundle that continues a run counts from the step of its state", async () => {
  const files = fixtureFile("constants.safetensors");
  const { tensors } = decodeSafetensors(files, "constants");
  const data = new Uint8Array(Int32Array.of(7).buffer);
  const source = changedSource({
    "constants.safetensors": encodeSafetensors(
      new Map(tensors).set("step", { dtype: "I32", shape: [], data })),
  });
  const trainer = await Trainer.load(source, { backend: "wasm" });
  assert.equal(trainer.step, 7);
  assert.equal(stepOf(await trainer.exportCheckpoint()), 7n);
  assert.equal((await trainer.trainBatch(x, y)).step, 8);
  assert.equal(trainer.step, 8);
  assert.equal(stepOf(await trainer.exportCheckpoint()), 8n);
});

function stepOf(checkpoint: Uint8Array): bigint | undefined {
  const { tensors } = decodeSafetensors(checkpoint, "checkpoint");
  const data = tensors.get("hearth/step")?.data.slice();
  return data && new DataView(data.buffer).getBigInt64(0, true);
}

test("run gives every output of a program by name", async () => {
  const trainer = await load();
  const outputs = await trainer.run("evaluate", { x, y });
  assert.deepEqual(Object.keys(outputs), ["loss", "logits", "mean_square"]);
  const { loss, metrics } = await trainer.evaluateBatch(x, y);
  assert.deepEqual([outputs["loss"]?.[0], metrics["mean_square"]], [loss, loss]);
  assert.equal(trainer.step, 0);
  const step = await trainer.run("train", { x, y, learning_rate: [0] });
  assert.equal(step["loss"]?.[0], loss);
  assert.equal(trainer.step, 1);
  assert.equal((await trainer.trainBatch(x, y)).step, 2);
  await rejects(trainer.run("fly", {}), InvalidInputError, /no program "fly"; it has train/);
});

test("steps may be started without waiting, and an error leaves the others alone", async () => {
  const trainer = await load();
  const results = await Promise.allSettled([
    trainer.trainBatch(x, y), trainer.trainBatch(x, [7]), trainer.trainBatch(x, y),
  ]);
  assert.deepEqual(results.map((r) => r.status), ["fulfilled", "rejected", "fulfilled"]);
  assert.equal(results[2].status === "fulfilled" && results[2].value.step, 2);
});

test("a diverging step says so, and loaded weights bring the model back", async () => {
  const trainer = await load();
  trainer.learningRate = 3e38;
  await trainer.trainBatch(x, y);
  await rejects(trainer.trainBatch(x, y), NumericalInstabilityError, /loss of step 2 is/);
  assert.equal(trainer.step, 2); // the step was taken
  assert.equal(stepOf(await trainer.exportCheckpoint()), 2n);
  await trainer.loadWeights(fixtureFile("weights.safetensors"));
  assert.ok(Number.isFinite((await trainer.evaluateBatch(x, y)).loss));
});

test("memory that is not there names the batch that fits, and training goes on", async () => {
  const trainer = await load({ threads: 1 });
  await trainer.trainBatch(x, y);
  const before = await trainer.exportWeights();
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its `this` below
  const { grow } = WebAssembly.Memory.prototype;
  let room = 4; // pages of 64 KiB
  WebAssembly.Memory.prototype.grow = function (pages) {
    if (pages > room) throw new RangeError("failed to grow memory");
    room -= pages;
    return grow.call(this, pages);
  };
  try {
    const many = (count: number): [Float32Array, Int32Array] =>
      [new Float32Array(4 * count), new Int32Array(count)];
    const error = await trainer.trainBatch(...many(100_000)).catch((e: unknown) => e);
    assert.ok(error instanceof OutOfMemoryError);
    assert.match(error.message, /a batch of 100000 needs \d+ bytes, which this browser does not/);
    const { suggestedBatchSize: most } = error;
    assert.ok(most > 5000 && most < 100_000, String(most));
    assert.deepEqual(await trainer.exportWeights(), before);
    assert.equal((await trainer.trainBatch(...many(most))).step, 2);
    assert.equal(trainer.device.batchSize, most);
    await rejects(trainer.trainBatch(...many(most + 5000)), OutOfMemoryError, /use at most/);
    assert.equal((await trainer.trainBatch(x, y)).step, 3);
  } finally {
    WebAssembly.Memory.prototype.grow = grow;
  }
});

test("the learning rate is checked at once", async () => {
  const trainer = await load();
  assert.equal(trainer.learningRate, 0.1);
  raises(() => { trainer.learningRate = -1; }, InvalidInputError, /learning rate is -1/);
  raises(() => { trainer.learningRate = NaN; }, InvalidInputError, /learning rate is NaN/);
  raises(() => { trainer.learningRate = [1, 2]; }, InvalidInputError, /2 learning rates given/);
  trainer.learningRate = [0.25];
  assert.equal(trainer.learningRate, 0.25);
});

test("after dispose every call says so, and dispose may be called twice", async () => {
  const trainer = await load();
  const last = trainer.trainBatch(x, y);
  await Promise.all([trainer.dispose(), trainer.dispose()]);
  assert.equal((await last).step, 1);
  await rejects(trainer.trainBatch(x, y), BackendError, /disposed/);
  await rejects(trainer.exportWeights(), BackendError, /disposed/);
  raises(() => { trainer.learningRate = 1; }, BackendError, /disposed/);
});

test("bad options are refused", async () => {
  const wrong = (options: Record<string, unknown>): Promise<Trainer> => load(options);
  await rejects(wrong({ backend: "cuda" }), InvalidInputError, /option backend is cuda/);
  await rejects(wrong({ seed: -1 }), InvalidInputError, /option seed is -1/);
  await rejects(wrong({ seed: 0.5 }), InvalidInputError, /option seed is 0.5/);
  await rejects(wrong({ threads: 0 }), InvalidInputError, /option threads is 0/);
  await rejects(wrong({ batchSize: 1.5 }), InvalidInputError, /option batchSize is 1.5/);
});

test("a damaged or truncated file is refused by name", async () => {
  const wasm = fixtureFile("simd.wasm");
  const damaged = wasm.slice();
  damaged[100] = (damaged[100] ?? 0) ^ 1;
  const replaced: [string, Uint8Array<ArrayBuffer>, RegExp][] = [
    ["simd.wasm", damaged, /simd.wasm is not the file[^]*SHA-256 differs/],
    ["simd.wasm", wasm.slice(0, 500), /it has 500 bytes instead of/],
    ["weights.safetensors", new Uint8Array(0), /weights.safetensors.*[^]*it has 0 bytes/],
    ["golden.safetensors", fixtureFile("weights.safetensors"), /golden.safetensors/],
  ];
  for (const [name, bytes, text] of replaced) {
    const source = fixtureSource({ [name]: bytes });
    await rejects(Trainer.load(source, { backend: "wasm" }), BundleFormatError, text);
  }
});

test("without a backend that this machine has, the reasons are listed", async () => {
  const manifest = manifestJson();
  delete manifest["wasm"];
  const source = fixtureSource({ "manifest.json": encode(manifest) });
  await rejects(Trainer.load(source), BackendError, /no backend runs this bundle/);
  await rejects(Trainer.load(source, { backend: "webgpu" }), BackendError, /has no WebGPU/);
});

test("asking for WebGPU where there is none falls back with a warning", async () => {
  const warnings: string[] = [];
  const trainer = await load({ backend: "webgpu", onWarning: (text) => warnings.push(text) });
  assert.equal(trainer.device.backend, "wasm");
  assert.match(warnings.join(), /WebGPU is not used: this browser has no WebGPU/);
  assert.deepEqual(trainer.warnings, warnings);
});

test("an adapter request that fails is a missing WebGPU, not a failed load", async () => {
  const requestAdapter = (): Promise<never> => Promise.reject(new TypeError("blocked by policy"));
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: { requestAdapter } }, configurable: true,
  });
  try {
    assert.equal((await load({ backend: "auto" })).device.backend, "wasm");
    const trainer = await load({ backend: "webgpu" });
    assert.equal(trainer.device.backend, "wasm");
    assert.match(trainer.warnings.join(), /WebGPU is not used: .*blocked by policy/);
  } finally {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  }
});

/** An engine whose device takes its time to compile the program "evaluate", as WebGPU does. */
async function compiling(refusal?: Error) {
  const options = { backend: "wasm", threads: 1 } as const;
  const engine = await Engine.load(fixtureSource(), options, () => undefined);
  const { session: { executor: { device } } } = engine as unknown as { session: Session };
  let end = (): void => undefined;
  const compiled = new Promise<void>((resolve, reject) => {
    end = refusal ? () => { reject(refusal); } : resolve;
  });
  compiled.catch(() => undefined);
  let ready = false;
  const prepare = (program: string): Promise<void> | undefined =>
    program === "evaluate" && !ready ? compiled.then(() => { ready = true; }) : undefined;
  const start = device.start.bind(device);
  Object.assign(device, {
    prepare,
    start: async (...call: Parameters<typeof start>) => {
      await prepare(call[0]);
      return start(...call);
    },
  });
  return { engine, end: () => { end(); } };
}

test("training goes on while a program compiles, whose turn comes then", async () => {
  const { engine, end } = await compiling();
  const seen = engine.run("evaluate", { x, y });
  const steps = Promise.all([1, 2, 3].map(() => engine.train(x, y)));
  const waited = new Promise((resolve) => { setTimeout(resolve, 2000, "the steps wait").unref(); });
  const taken = await Promise.race([steps, waited]);
  assert.ok(Array.isArray(taken), String(taken));
  end();
  const { outputs, step } = await seen;
  assert.equal(step, 3);
  const { loss } = await engine.evaluate(x, y);
  assert.equal(outputs["loss"]?.[0], loss); // of the weights after the steps
  // From now on it takes its place at once.
  const [again, after] = [engine.run("evaluate", { x, y }), engine.train(x, y)];
  assert.equal((await again).step, 3);
  assert.equal((await after).step, 4);
});

test("a program that does not compile says so itself", async () => {
  const { engine, end } = await compiling(new BackendError("the kernel k does not compile"));
  const seen = engine.run("evaluate", { x, y });
  assert.equal((await engine.train(x, y)).step, 1);
  end();
  await rejects(seen, BackendError, /the kernel k does not compile/);
});

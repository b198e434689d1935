import assert from "node:assert/strict";
import { test } from "node:test";
import { explain } from "../src/explain.ts";
import { InvalidInputError } from "../src/errors.ts";
import { Trainer } from "../src/index.ts";
import {
  inspect, type Layer, type RunProgram, type Summary, uselessUnits, valueNames, widened,
} from "../src/inspection.ts";
import type { Manifest, Output, Program } from "../src/manifest.ts";
import { inspectionOf } from "../src/tools/inspection-of.ts";
import { fixtureManifest, fixtureSource, raises, rejects } from "./fixture.ts";

const SUMMARY: Omit<Summary, "histogram" | "limit"> =
  { mean: 0, std: 0, min: 0, max: 0, zeros: 0, nan: 0, inf: 0, norm: 0 };

/** Counts of values in `bins` equal bins from -limit to limit. */
function counted(values: readonly number[], limit: number, bins: number): Int32Array {
  const counts = new Int32Array(bins);
  for (const value of values) {
    const bin = Math.min(Math.floor((value + limit) / (2 * limit) * bins), bins - 1);
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return counts;
}

function layer(name: string, shares: Partial<Pick<Layer, "silent" | "saturated">>): Layer {
  return { name, activation: { ...SUMMARY, limit: 1, histogram: new Int32Array(64) }, ...shares };
}

/** The fixture's manifest with another program. */
function withProgram(
  name: string, inputs: Program["inputs"], outputs: readonly string[],
): Manifest {
  const manifest = fixtureManifest();
  const { train } = manifest.programs;
  assert.ok(train);
  const like: Output = { name: "", role: "output", dtype: "float32", shape: [], buffer: 0 };
  const program = { ...train, inputs, outputs: outputs.map((o) => ({ ...like, name: o })) };
  return { ...manifest, programs: { ...manifest.programs, [name]: program } };
}

const looked = (): Manifest => withProgram("inspect", fixtureManifest().programs["train"]?.inputs ??
  [], ["loss", "statistics/activation/fc", "histogram/activation/fc", "values/activation/fc",
  "values/updates/0"]);

const never: RunProgram = () => assert.fail("ran");

test("a histogram counts the same values in a wider range", () => {
  // Powers of two lie on edges of bins; the program's limit is the first one above all of them.
  const values = [-0.5, -0.3, -1e-6, 0, 0.01, 0.124, 0.125, 0.249, 0.49, 0.5];
  const own = 2 ** (Math.floor(Math.log2(Math.max(...values.map(Math.abs)))) + 1);
  const summary = { ...SUMMARY, limit: own, histogram: counted(values, own, 64) };
  for (const limit of [own, 2, 4, 1024]) {
    assert.deepEqual(widened(summary, limit), counted(values, limit, 64), String(limit));
  }
  assert.equal(widened(summary, 0.25), summary.histogram); // a range never narrows
});

test("units are of no use that were silent or saturated in every batch", () => {
  const first = { layers: [
    layer("relu", { silent: Float32Array.of(1, 1, 0.5) }),
    layer("act", { saturated: Float32Array.of(0.96, 0.2) }), layer("last", {}),
  ] };
  const second = { layers: [
    layer("relu", { silent: Float32Array.of(1, 0.99, 1) }),
    layer("act", { saturated: Float32Array.of(0.95, 1) }), layer("last", {}),
  ] };
  assert.deepEqual(uselessUnits([first]).map(({ message }) => message),
    ["relu: 2 of 3 units never fire", "act: 1 of 2 units are saturated"]);
  assert.deepEqual(uselessUnits([first, second]).map(({ kind, layer, units, of }) =>
    [kind, layer, units, of]), [["silent", "relu", [0], 3], ["saturated", "act", [0], 2]]);
  raises(() => uselessUnits([]), InvalidInputError, /no inspection/);
});

test("outputs of the program get their places", () => {
  const statistics = Float32Array.of(1, 2, -3, 4, 0.5, 1, 2, 7, 8);
  const { loss, layers, values, parameters } = inspectionOf(looked(), {
    "loss": Float32Array.of(0.25),
    "statistics/activation/fc": statistics,
    "histogram/activation/fc": Int32Array.from({ length: 64 }, (_, i) => i),
    "values/activation/fc": Float32Array.of(5, 6),
  });
  assert.equal(loss, 0.25);
  const [fc] = layers;
  assert.ok(fc);
  const { histogram, ...numbers } = fc.activation;
  assert.deepEqual(numbers,
    { mean: 1, std: 2, min: -3, max: 4, zeros: 0.5, nan: 1, inf: 2, norm: 7, limit: 8 });
  assert.equal(histogram[63], 63);
  assert.equal(fc.gradient, undefined);
  assert.deepEqual(values, { "activation/fc": Float32Array.of(5, 6) });
  assert.ok(parameters.every(({ gradient }) => gradient));
});

test("only what is asked for is read whole", async () => {
  const manifest = looked();
  assert.deepEqual(valueNames(manifest), ["activation/fc"]);
  const asked: (readonly string[])[] = [];
  const run: RunProgram = (_, __, outputs) => {
    asked.push(outputs);
    return Promise.resolve({});
  };
  const [x, y] = [new Float32Array(4), new Int32Array(1)];
  await inspect(manifest, run, x, y);
  await inspect(manifest, run, x, y, { values: ["activation/fc"] });
  const described = ["loss", "statistics/activation/fc", "histogram/activation/fc"];
  assert.deepEqual(asked, [described, [...described, "values/activation/fc"]]);
  const unknown = inspect(manifest, never, x, y, { values: ["activation/gc"] });
  await rejects(unknown, InvalidInputError, /no values "activation\/gc"[^]*activation\/fc/);
  await rejects(inspect(manifest, never, x, undefined), InvalidInputError, /0 targets given/);
  await rejects(inspect(manifest, never, [x, x], y), InvalidInputError, /2 inputs given/);
});

test("a bundle without the programs says how to get them", async () => {
  const trainer = await Trainer.load(fixtureSource(), { backend: "wasm", threads: 1 });
  const [x, y] = [new Float32Array(4), new Int32Array(1)];
  await rejects(trainer.inspect(x, y), InvalidInputError, /inspect=True/);
  raises(() => valueNames(trainer.manifest), InvalidInputError, /inspect=True/);
  for (const method of ["grad_cam", "train", "toString"]) {
    await rejects(trainer.explain(method, x, { class: 0 }), InvalidInputError,
      /cannot explain by[^]*explain=hearth.explain/);
  }
  await trainer.dispose();
});

test("an image at a time, and a step after another", async () => {
  const [x] = fixtureManifest().programs["train"]?.inputs ?? [];
  assert.ok(x);
  const inputs = (extra: readonly string[]): Program["inputs"] => [
    { ...x, name: "input/0", shape: [1, 1, 2, 2] }, { ...x, name: "input/1", shape: [1] },
    ...extra.map((name) => ({ ...x, name, shape: [] })),
  ];
  const images = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const given: unknown[] = [];
  const run: RunProgram = (_, all, [output]) => {
    given.push(all["input/1"]);
    const image = all["input/0"] as Float32Array;
    return Promise.resolve({ [output ?? ""]: image.map((value) => value + 1) });
  };
  const alone = withProgram("occlusion", inputs([]), ["output/0"]);
  assert.deepEqual([...await explain(alone, run, "occlusion", images, { class: [4, 5] })],
    [2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(given, [[4], [5]]);
  const climb = withProgram("climb", inputs(["input/2"]), ["output/images", "output/activations"]);
  assert.deepEqual([...await explain(climb, run, "climb", images, { class: 0, steps: 3 })],
    [4, 5, 6, 7, 8, 9, 10, 11]);
  for (const [wrong, message] of [
    [explain(climb, never, "climb", images, { class: 0, steps: 0.5 }), /steps is 0.5/],
    [explain(climb, never, "climb", images, { class: [0] }), /1 classes for 2 images/],
    [explain(climb, never, "climb", new Float32Array(3), { class: 0 }), /no images of 4/],
    [explain(climb, never, "climb", new Float32Array(0), { class: 0 }), /no images of 4/],
  ] as const) await rejects(wrong, InvalidInputError, message);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  elements, evaluate, formatShape, isStatic, largestBatch, solveBatch,
} from "../src/dims.ts";
import { bufferBytes, largestBatchWithin, offsetOf, planMemory } from "../src/plan.ts";
import { parseManifest } from "../src/parse-manifest.ts";
import { encode, fixtureManifest, manifestJson } from "./fixture.ts";

test("an extent is a polynomial in B", () => {
  assert.equal(evaluate(7, 100), 7);
  assert.equal(evaluate([3, 2], 5), 13);
  assert.equal(evaluate([0, 0, 2], 5), 50);
  assert.ok(isStatic([4, 0]) && !isStatic([0, 1]));
  assert.equal(elements([[0, 1], 28, 28], 3), 2352);
  assert.equal(formatShape([[0, 1], [3, 2], [-1, 0, 1], 28]), "[B, 2*B + 3, B^2 - 1, 28]");
});

test("the batch size follows from a count, or there is none", () => {
  const count = (b: number): number => elements([[0, 1], 784], b);
  assert.equal(solveBatch(count, 784 * 32), 32);
  assert.equal(solveBatch(count, 784), 1);
  assert.equal(solveBatch(count, 785), 0);
  assert.equal(solveBatch(count, 0), 0);
  assert.equal(solveBatch((b) => b * (b + 1), 12), 3);
  assert.equal(largestBatch((b) => b <= 1000), 1000);
  assert.equal(largestBatch(() => false), 0);
});

test("slots lie one after another from the end of the state region", () => {
  const manifest = fixtureManifest();
  const plan = planMemory(manifest, 100);
  // x 1600, y 400, rate 4, logits 1200, residual 1200, loss 4 bytes: each rounded up to 256
  assert.deepEqual(plan.slots["train"], [1792, 3584, 4096, 4352, 5632, 6912]);
  assert.equal(plan.arenaBytes, 7168);
  assert.equal(offsetOf(plan, manifest, "train", 10), 4096);
  assert.equal(offsetOf(plan, manifest, "train", 1), 256);
  assert.equal(bufferBytes(manifest, 8, 100), 1600);
});

test("a slot begins where the highest of those ends that it lies above", () => {
  const manifest = manifestJson() as { programs: { predict: { slots: unknown; above: unknown } } };
  manifest.programs.predict.slots = [[[0, 16]], [[0, 512]], [[0, 4]], [[0, 4]]];
  manifest.programs.predict.above = [[], [], [0, 1], [0]];
  const plan = planMemory(parseManifest(encode(manifest)), 1);
  assert.deepEqual(plan.slots["predict"], [1792, 1792, 2304, 2048]);
  manifest.programs.predict.above = [[], [], [3], []];
  assert.throws(() => parseManifest(encode(manifest)), /predict\.above\[2\]: names a slot/);
});

test("a slot without elements has a place of its own", () => {
  const manifest = manifestJson() as { programs: { predict: { slots: unknown[] } } };
  manifest.programs.predict.slots = [[[0, 16]], [[0, 12]], [0], []];
  const plan = planMemory(parseManifest(encode(manifest)), 1);
  assert.deepEqual(plan.slots["predict"], [1792, 2048, 2304, 2560]);
});

test("the largest batch within a limit fits, the next one does not", () => {
  const manifest = fixtureManifest();
  const batch = largestBatchWithin(manifest, 1_000_000);
  assert.ok(planMemory(manifest, batch).arenaBytes <= 1_000_000);
  assert.ok(planMemory(manifest, batch + 1).arenaBytes > 1_000_000);
});

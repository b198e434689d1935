import assert from "node:assert/strict";
import { test } from "node:test";

import { Journal } from "../src/journal.ts";
import type { Manifest } from "../src/manifest.ts";
import { savedSpan } from "../src/state.ts";

const STATELESS = { state: [] } as unknown as Manifest;

/** A journal of a guarded run with a picture after every ten steps; the images in order. */
async function guardedRun(pictures: number) {
  const journal = new Journal(STATELESS);
  journal.everySteps = 10;
  journal.isGuarded = true;
  const images = Array.from({ length: pictures }, () => new Uint8Array(4));
  for (const [i, image] of images.entries()) {
    journal.begin(10 * i, Promise.resolve(image));
    await Promise.resolve(); // the picture arrives
  }
  return { journal, images };
}

test("a picture that is given up lends its memory to the next one, once", async () => {
  const { journal, images } = await guardedRun(2);
  assert.equal(journal.takeSpare(), undefined);
  journal.confirm(10); // not yet: the run may still have to go back to the first picture
  assert.equal(journal.takeSpare(), undefined);
  journal.confirm(15);
  assert.equal(journal.takeSpare(), images[0]);
  assert.equal(journal.takeSpare(), undefined);
});

test("the memory of a picture that a run can go back to is never lent", async () => {
  const { journal, images } = await guardedRun(4);
  journal.confirm(25); // the pictures after 20 and 30 steps are still needed
  const spare = journal.takeSpare();
  const kept = [journal.oldest(), journal.newest()].map((found) => found?.picture.image);
  assert.deepEqual(kept.map((image) => images.indexOf(image as never)), [2, 3]);
  assert.equal(images.indexOf(spare as never), 1);
});

test("a picture ends before the workspaces and constants behind the state", () => {
  const entry = (role: string, offset: number) => ({ role, offset, shape: [3], dtype: "float32" });
  const of = (...state: object[]): number => savedSpan({ state } as unknown as Manifest).bytes;
  const [weight, step] = [entry("parameter", 0), entry("step", 512)];
  const behind = [entry("workspace", 768), entry("constant", 1024)];
  assert.equal(of(weight, step, ...behind), 512 + 12);
  assert.equal(of(entry("workspace", 256), weight, step), 512 + 12); // others may follow: whole
});

test("the memory of batches is given back when their steps cannot be taken again", async () => {
  const { journal } = await guardedRun(0);
  const picture = async (step: number): Promise<void> => {
    journal.begin(step, Promise.resolve(new Uint8Array(4)));
    await Promise.resolve();
  };
  const add = (...arrays: unknown[]): void => {
    const given = arrays.map((data) => ({ entry: {}, label: "x", data }));
    journal.add({ program: "train", given, roles: undefined, rates: [] } as never);
  };
  const [first, second] = [new Float32Array(4096), new Float32Array(4096)];
  const shared = new Float32Array(8192);
  await picture(0);
  add(first, new Int32Array(32), shared.subarray(4096), [1, 2]);
  await picture(10);
  add(second);
  journal.confirm(14);
  assert.deepEqual(journal.takeSpent(), []);
  journal.confirm(15);
  assert.deepEqual(journal.takeSpent(), [first.buffer]); // small ones and parts are not worth it
  assert.deepEqual(journal.takeSpent(), []);
  await picture(20);
  journal.isGuarded = false; // single steps: nobody asks for their memory
  journal.confirm(20);
  assert.deepEqual(journal.takeSpent(), []);
});

test("large batches bring pictures forward, and a round number soon after brings none", () => {
  const journal = new Journal(STATELESS);
  journal.everySteps = 50;
  const due: number[] = [];
  for (let step = 0; step < 200; step++) {
    if (journal.isDue(step)) {
      due.push(step);
      journal.begin(step, Promise.resolve(new Uint8Array(4)));
    }
    const given = [{ entry: {}, label: "x", data: new Uint8Array(2 ** 22 / 10) }];
    journal.add({ program: "train", given, roles: undefined, rates: [] } as never);
  }
  assert.deepEqual(due, [0, 41, 82, 123, 150, 191]);
});

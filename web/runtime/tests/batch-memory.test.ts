import assert from "node:assert/strict";
import { test } from "node:test";

import { BatchMemory } from "../src/batch-memory.ts";
import { copyBatch } from "../src/copies.ts";

test("copies go to memory of their size, and are the caller's alone", () => {
  const memory = new BatchMemory();
  const lent = new ArrayBuffer(64);
  memory.give([lent, new ArrayBuffer(32)]);
  const x = Float32Array.from({ length: 16 }, (_, i) => i);
  const y = BigInt64Array.from([3n, 4n]);
  const first = copyBatch(x, y, memory);
  assert.equal((first.x as Float32Array).buffer, lent);
  assert.deepEqual(first, { x, y });
  const second = copyBatch(x.map((v) => -v), undefined, memory);
  assert.notEqual((second.x as Float32Array).buffer, lent);
  assert.deepEqual(first.x, x);
  assert.equal(copyBatch([1, 2], y, memory).y?.length, 2);
});

test("memory that was given stays within its limit", () => {
  const memory = new BatchMemory();
  const large = () => new ArrayBuffer(12 * 2 ** 20);
  memory.give([new ArrayBuffer(100), large(), large()]);
  assert.ok(memory.take(100));
  memory.give([new ArrayBuffer(100), large()]); // the third of the large ones does not fit
  assert.equal(memory.take(100), undefined);
  assert.ok(memory.take(12 * 2 ** 20));
  assert.equal(memory.take(12 * 2 ** 20), undefined);
  memory.give([large(), large()]); // and a limit that counts what was taken would be reached here
  assert.ok(memory.take(12 * 2 ** 20) && memory.take(12 * 2 ** 20));
});

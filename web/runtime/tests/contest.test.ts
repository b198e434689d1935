import assert from "node:assert/strict";
import { test } from "node:test";
import { Contest } from "../src/contest.ts";
import { BackendError, InvalidInputError } from "../src/errors.ts";
import type { Executor } from "../src/executor.ts";

/** A contest whose GPU raises the errors in turn, and then takes no time; what it disposed of. */
async function contest(...errors: Error[]) {
  let disposed = 0;
  const start = (): Promise<unknown> => {
    const error = errors.shift();
    const running = { batch: 3, results: Promise.resolve() };
    return error ? Promise.reject(error) : Promise.resolve(running);
  };
  const gpu = { start, device: { dispose: () => { disposed++; } } } as unknown as Executor;
  const made = new Contest(Promise.resolve(gpu), (message) => { throw new Error(message); });
  await Promise.resolve(); // until the GPU has arrived
  for (let i = 0; i < 4; i++) made.note("train", 3, 1000);
  return { made, gpu, disposed: () => disposed };
}

test("a batch that is refused decides nothing", async () => {
  const { made, gpu, disposed } = await contest(new InvalidInputError("x is NaN"));
  assert.equal(await made.decide("train", [], undefined), undefined);
  assert.equal(disposed(), 0);
  assert.equal((await made.decide("train", [], undefined))?.winner, gpu);
});

test("a GPU that fails has lost", async () => {
  const { made, disposed } = await contest(new BackendError("the GPU is lost"));
  const decided = await made.decide("train", [], undefined);
  assert.deepEqual([decided?.winner, decided?.comparison.gpuMs], [undefined, Infinity]);
  assert.equal(disposed(), 1);
});

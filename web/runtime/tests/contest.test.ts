import assert from "node:assert/strict";
import { test } from "node:test";
import { Contest } from "../src/contest.ts";
import { BackendError, InvalidInputError, OutOfMemoryError } from "../src/errors.ts";
import type { Executor } from "../src/executor.ts";

const ROOM = 8; // samples that fit on the GPU

/** A contest whose GPU raises the errors in turn, and then takes no time; what it disposed of. */
async function contest(...errors: Error[]) {
  let disposed = 0;
  const warnings: string[] = [];
  const makeRoom = (batch: number): Promise<void> => batch <= ROOM ? Promise.resolve()
    : Promise.reject(new OutOfMemoryError(`no room for ${String(batch)}`));
  const start = (): Promise<unknown> => {
    const error = errors.shift();
    const running = { batch: 3, results: Promise.resolve() };
    return error ? Promise.reject(error) : Promise.resolve(running);
  };
  const device = { dispose: () => { disposed++; } };
  const gpu = { start, makeRoom, device } as unknown as Executor;
  const made = new Contest(Promise.resolve(gpu), (message) => { warnings.push(message); });
  await Promise.resolve(); // until the GPU has arrived
  for (let i = 0; i < 4; i++) made.note("train", 3, 1000);
  return { made, gpu, warnings, disposed: () => disposed };
}

test("a batch that is refused decides nothing", async () => {
  const { made, gpu, warnings, disposed } = await contest(new InvalidInputError("x is NaN"));
  assert.equal(await made.decide("train", [], undefined), undefined);
  assert.deepEqual([disposed(), warnings], [0, []]);
  assert.equal((await made.decide("train", [], undefined))?.winner, gpu);
});

test("a GPU that fails has lost", async () => {
  const { made, warnings, disposed } = await contest(new BackendError("the GPU is lost"));
  const decided = await made.decide("train", [], undefined);
  assert.deepEqual([decided?.winner, decided?.comparison.gpuMs], [undefined, Infinity]);
  assert.deepEqual([disposed(), warnings], [1, ["WebGPU is not used: the GPU is lost"]]);
});

test("a GPU without room for the largest batch has lost, though another decides", async () => {
  const { made, warnings, disposed } = await contest();
  made.note("evaluate", ROOM + 1, 1000);
  const decided = await made.decide("train", [], undefined);
  assert.deepEqual([decided?.winner, decided?.comparison.gpuMs], [undefined, Infinity]);
  assert.deepEqual([disposed(), warnings], [1, ["WebGPU is not used: no room for 9"]]);
  const other = await contest();
  other.made.note("evaluate", ROOM, 1000);
  assert.equal((await other.made.decide("train", [], undefined))?.winner, other.gpu);
});

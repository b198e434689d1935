/**
 * The batch size that trains most samples in a second, among those that fit into the budget.
 *
 * What fits is known to the byte; what is fast is measured, by training steps on the person's own
 * samples, repeated to fill a batch.  The state is put back: nothing of it is left to see.
 */

import { LARGEST_TRIED } from "../auto-batch-size.ts";
import type { Backend } from "../device.ts";
import { elements } from "../dims.ts";
import { OutOfMemoryError } from "../errors.ts";
import type { Executor } from "../executor.ts";
import { checkBatch, requireWhole, type Argument, type InputArray } from "../inputs.ts";
import { largestBatchFor } from "../memory.ts";

const ROUNDS = 3; // of timing; the median counts, as a busy machine's clock may stand still
const ENOUGH_MS = 5; // of a round: a page's clock may have ticks of 0.1 ms
const MOST_STEPS = 256;
const NEARLY = 1.05; // as fast as the fastest, for a larger batch
const SLOWER = 1.5; // than the fastest, after which larger batches are not tried

export interface BatchSizeOptions {
  /** The largest batch size to consider; 1024 by default. */
  limit?: number;
  /** A step may not take longer, in milliseconds; 1000 by default. */
  stepMs?: number;
}

/** What was measured. */
export interface BatchSize {
  readonly batchSize: number;
  /** The device that it was measured on. */
  readonly backend: Backend;
  /** Milliseconds of a training step by batch size. */
  readonly stepMs: Readonly<Record<number, number>>;
}

/** Tries powers of two, and the largest that fits. */
export async function findBatchSize(
  executor: Executor, given: readonly Argument[],
  { limit = LARGEST_TRIED, stepMs = 1000 }: BatchSizeOptions,
): Promise<BatchSize> {
  requireWhole(limit, "limit", 1);
  checkBatch(given);
  const { manifest, device } = executor;
  const most = Math.min(limit, largestBatchFor(manifest, executor.budgetBytes, device.info));
  const whole = { offset: 0, bytes: manifest.state_bytes };
  const image = await device.readState(whole);
  const measured: Record<number, number> = {};
  let best = Infinity; // milliseconds of a sample
  try {
    for (const batch of sizesUpTo(most)) {
      const ms = await timeSteps(executor, repeated(given, batch)).catch((error: unknown) => {
        // The device gives less than the budget allows: what was measured is all there is.
        if (error instanceof OutOfMemoryError && batch > 1) return undefined;
        throw error;
      });
      if (ms === undefined) break;
      measured[batch] = ms;
      best = Math.min(best, ms / batch);
      if (ms > stepMs || ms / batch > SLOWER * best) break;
    }
  } finally {
    device.writeState(0, image);
  }
  const good = Object.entries(measured).map(([size, ms]) => ({ size: Number(size), ms }))
    .filter(({ size, ms }) => ms / size <= NEARLY * best && (ms <= stepMs || size === 1));
  const batchSize = Math.max(1, ...good.map(({ size }) => size));
  return { batchSize, backend: device.info.backend, stepMs: measured };
}

function sizesUpTo(most: number): number[] {
  const sizes: number[] = [];
  for (let size = 1; size < most; size *= 2) sizes.push(size);
  return [...sizes, Math.max(1, most)];
}

/** Milliseconds of a step, of as many as take long enough to be timed. */
async function timeSteps(executor: Executor, given: readonly Argument[]): Promise<number> {
  await takeSteps(executor, given, 1); // warms up
  let steps = 1;
  let ms = await takeSteps(executor, given, steps);
  while (ms * steps < ENOUGH_MS && steps < MOST_STEPS) {
    steps *= 2;
    ms = await takeSteps(executor, given, steps);
  }
  const rounds = [ms];
  while (rounds.length < ROUNDS) rounds.push(await takeSteps(executor, given, steps));
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] ?? NaN;
}

/** Takes steps as `fit` does, without waiting for each; gives the milliseconds of one. */
async function takeSteps(
  executor: Executor, given: readonly Argument[], steps: number,
): Promise<number> {
  const begin = performance.now();
  const losses: Promise<unknown>[] = [];
  for (let i = 0; i < steps; i++) {
    const { results } = await executor.start("train", given, ["loss"]);
    results.catch(() => undefined); // heard below, unless another step does not start
    losses.push(results);
  }
  await Promise.all(losses);
  return (performance.now() - begin) / steps;
}

/** The samples again and again, until there are as many as a batch has. */
function repeated(given: readonly Argument[], batch: number): Argument[] {
  return given.map((argument) => {
    const { entry, data } = argument;
    const count = elements(entry.shape, batch);
    const Kind = data.constructor as new (count: number) => { [index: number]: unknown };
    const filled = new Kind(count);
    for (let i = 0; i < count; i++) filled[i] = data[i % data.length];
    return { ...argument, data: filled as unknown as InputArray };
  });
}

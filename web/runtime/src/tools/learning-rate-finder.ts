/**
 * The learning rate range test: L. N. Smith, Cyclical Learning Rates for Training Neural Networks
 * (2017, arXiv:1506.01186), section 3.3.
 *
 * Smoothing, end and suggestion are those of PyTorch Lightning's `lr_find` and of fast.ai.  The
 * trainer only lends itself: its run is put aside as a checkpoint and comes back bit for bit.
 */

import { batchesOf, isReadOnce, type Batches } from "../data-loader.ts";
import { InvalidInputError, NumericalInstabilityError } from "../errors.ts";
import { requireWhole } from "../inputs.ts";
import { checkedRates } from "../learning-rate.ts";
import type { LearningRateFinderOptions, LearningRates } from "../learning-rate-finder.ts";
import type { Batch } from "../slice.ts";
import type { Trainer } from "../trainer.ts";

/** `findLearningRate` of ../learning-rate-finder.ts. */
export async function sweepLearningRates(
  trainer: Trainer, batches: Batches, options: LearningRateFinderOptions,
): Promise<LearningRates> {
  const sweep = checkedSweep(options);
  checkedRates(sweep.from, [trainer.learningRate].flat().length);
  const found = { rates: [] as number[], losses: [] as number[], smoothed: [] as number[] };
  const { rates, losses, smoothed } = found;
  const { smoothing, divergence, steps, signal } = sweep;
  let [mean, best] = [0, Infinity];
  await putAside(trainer, async () => {
    for await (const batch of endlessly(batches)) {
      signal?.throwIfAborted();
      const rate = sweep.from * (sweep.to / sweep.from) ** (rates.length / (steps - 1));
      trainer.learningRate = rate;
      const loss = await finiteLoss(trainer, batch);
      if (loss === undefined) return;
      rates.push(rate);
      losses.push(loss);
      mean = smoothing * mean + (1 - smoothing) * loss;
      const smooth = mean / (1 - smoothing ** rates.length);
      smoothed.push(smooth);
      // Relative to the best one; so written it also holds where losses are negative.
      if (smooth - best > (divergence - 1) * Math.abs(best)) return;
      best = Math.min(best, smooth);
      if (rates.length === steps) return;
    }
    throw new InvalidInputError(`the batches ended after ${String(rates.length)} of \
${String(steps)} steps`, { remedy: "give a DataLoader, or ask for fewer steps" });
  });
  return { ...found, suggestion: steepest(rates, smoothed, steps) };
}

function checkedSweep(options: LearningRateFinderOptions) {
  const { from = 1e-7, to = 10, steps = 100, smoothing = 0.98, divergence = 4, signal } = options;
  requireWhole(steps, "steps", 2);
  requireRange(from > 0 && Number.isFinite(from), "from", from, "a learning rate above 0");
  requireRange(to > from && Number.isFinite(to), "to", to, `a rate above from, ${String(from)}`);
  requireRange(smoothing >= 0 && smoothing < 1, "smoothing", smoothing, "0 or more, and below 1");
  requireRange(divergence > 1, "divergence", divergence, "a factor above 1");
  return { from, to, steps, smoothing, divergence, signal };
}

function requireRange(holds: boolean, name: string, value: number, expected: string): void {
  if (holds) return;
  throw new InvalidInputError(`${name} is ${String(value)}, expected ${expected}`);
}

/** Epoch after epoch; it ends only where the data can be read once, or are none. */
async function* endlessly(batches: Batches): AsyncGenerator<Batch> {
  for (let epoch = 0, count = -1; count !== 0; epoch++) {
    count = 0;
    for await (const batch of batchesOf(batches, epoch)) {
      count++;
      yield batch;
    }
    if (isReadOnce(batches)) return;
  }
}

/** The loss of a step before its update; undefined where it is not finite. */
async function finiteLoss(trainer: Trainer, { x, y }: Batch): Promise<number | undefined> {
  try {
    return (await trainer.trainBatch(x, y)).loss;
  } catch (error) {
    if (error instanceof NumericalInstabilityError) return undefined;
    throw error;
  }
}

/** Does something with the trainer and gives it its run back, however that ends. */
async function putAside(trainer: Trainer, work: () => Promise<void>): Promise<void> {
  const run = await trainer.exportCheckpoint();
  const { record } = trainer.log;
  try {
    await work();
  } finally {
    await trainer.loadCheckpoint(run);
    trainer.log.record = record;
  }
}

/**
 * The rate at the most negative slope over the logarithm of the rate, by central differences.
 *
 * The first tenth of the sweep, where the running mean is still young, and its last step, which
 * diverged, do not count.
 */
function steepest(
  rates: readonly number[], smoothed: readonly number[], steps: number,
): number | undefined {
  let [suggestion, least]: [number | undefined, number] = [undefined, 0];
  for (let i = Math.max(1, Math.floor(steps / 10)); i < rates.length - 1; i++) {
    const slope = ((smoothed[i + 1] ?? NaN) - (smoothed[i - 1] ?? NaN)) / 2;
    if (slope < least) [suggestion, least] = [rates[i], slope];
  }
  return suggestion;
}

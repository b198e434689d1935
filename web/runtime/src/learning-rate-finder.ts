/** The learning rate range test, as a page asks for it; `tools/learning-rate-finder.ts` does it. */

import type { Batches } from "./data-loader.ts";
import { loadTools } from "./tools.ts";
import type { Trainer } from "./trainer.ts";

export interface LearningRateFinderOptions {
  /** The first rate, 1e-7 by default, and the last, 10; those between grow by a constant factor. */
  from?: number;
  to?: number;
  /** Training steps, one rate each; 100 by default. */
  steps?: number;
  /** The weight of the past in the smoothed loss, 0.98 by default; 0 does not smooth. */
  smoothing?: number;
  /** The sweep ends where the smoothed loss is so many times the best one; 4 by default. */
  divergence?: number;
  /** Ends the sweep; the call then throws the signal's reason. */
  signal?: AbortSignal;
}

/** One number for every step that was taken and had a finite loss. */
export interface LearningRates {
  readonly rates: readonly number[];
  readonly losses: readonly number[];
  /** The running mean of the losses, corrected for its beginning at 0. */
  readonly smoothed: readonly number[];
  /** Where the smoothed loss falls fastest; undefined where it never falls. */
  readonly suggestion: number | undefined;
}

/**
 * Trains with a rate that grows, and says at which the loss falls fastest.
 *
 * All parameter groups take the same rate.  Data that are shorter than the sweep are read again.
 * The sweep also ends, without an error, at a loss that is not finite.  Afterwards the trainer's
 * run is as before, also where the call raises; nothing else may train meanwhile.  Raises
 * InvalidInputError for ranges that are none and for data that end, and what `trainBatch` raises.
 *
 *     const { suggestion } = await findLearningRate(trainer, loader);
 *     if (suggestion) trainer.learningRate = suggestion;
 */
export async function findLearningRate(
  trainer: Trainer, batches: Batches, options: LearningRateFinderOptions = {},
): Promise<LearningRates> {
  const { sweepLearningRates } = await loadTools();
  return sweepLearningRates(trainer, batches, options);
}

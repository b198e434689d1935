/** Ends a run that no longer gets better, and gives back its best weights. */

import { requireNumber } from "./arguments.ts";
import type { Callback } from "./fit.ts";
import { requireWhole } from "./inputs.ts";
import { monitored, signOf, type Mode } from "./monitor.ts";
import type { RunRecord, Validation } from "./run-record.ts";
import type { Bytes } from "./safetensors.ts";
import type { Trainer } from "./trainer.ts";

export interface EarlyStoppingOptions {
  /** "loss", or a metric of the validation. */
  monitor?: string;
  /** Whether less is better; by default so for "loss" and nothing else. */
  mode?: Mode;
  /** Validations without a better value before the run ends. */
  patience?: number;
  /** What counts as better at least. */
  minDelta?: number;
  /** Whether the run leaves the weights of its best validation; so by default. */
  restoreBest?: boolean;
}

/**
 * A callback for `fit` with `validate`.
 *
 * The weights of the best validation are kept, 4 bytes each, also in checkpoints, and loaded when
 * the run ends, by itself or otherwise.  What it has seen stands in the history: a resumed run ends
 * where it would have.  Raises InvalidInputError where the validation has no such metric.
 */
export function earlyStopping(options: EarlyStoppingOptions = {}): Callback {
  const { monitor = "loss", patience = 3, minDelta = 0, restoreBest = true } = options;
  requireWhole(patience, "patience", 0);
  requireNumber(minDelta, "minDelta", 0, { admitsLow: true });
  const sign = signOf(monitor, options.mode);
  return {
    async on(event, trainer) {
      if (event.kind !== "validation") return undefined;
      monitored(event, monitor); // refuses what is none
      const { record } = trainer.log;
      const waited = waitedFor(record, (past) => sign * monitored(past, monitor), minDelta);
      if (waited > 0) return waited >= patience ? "stop" : undefined;
      if (!restoreBest) return undefined;
      record.best = { step: event.step, weights: await trainer.exportWeights() as Bytes };
      return undefined;
    },
    async end(trainer: Trainer) {
      const { record } = trainer.log;
      const { best } = record;
      record.best = undefined;
      if (restoreBest && best) await trainer.loadWeights(best.weights);
    },
  };
}

/** The validations of a run since its best one. */
function waitedFor(
  { validations, runStep }: RunRecord, valueOf: (validation: Validation) => number,
  minDelta: number,
): number {
  let [best, waited] = [Infinity, 0];
  for (const validation of validations.filter(({ step }) => step > runStep)) {
    const value = valueOf(validation);
    if (value < best - minDelta) [best, waited] = [value, 0];
    else waited++;
  }
  return waited;
}

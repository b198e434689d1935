/** Ends a run that no longer gets better, and gives back its best weights. */

import { requireNumber } from "./arguments.ts";
import type { Callback } from "./fit.ts";
import { requireWhole } from "./inputs.ts";
import { monitored, signOf, type Mode } from "./monitor.ts";
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
 * The weights of the best validation are kept, 4 bytes each, and loaded when the run ends, by
 * itself or otherwise.  Raises InvalidInputError where the validation has no such metric.
 */
export function earlyStopping(options: EarlyStoppingOptions = {}): Callback {
  const { monitor = "loss", patience = 3, minDelta = 0, restoreBest = true } = options;
  requireWhole(patience, "patience", 0);
  requireNumber(minDelta, "minDelta", 0, { admitsLow: true });
  const sign = signOf(monitor, options.mode);
  let best = Infinity;
  let waited = 0;
  let weights: Uint8Array | undefined;
  return {
    async on(event, trainer) {
      if (event.kind !== "validation") return undefined;
      const value = sign * monitored(event, monitor);
      if (value < best - minDelta) {
        [best, waited] = [value, 0];
        if (restoreBest) weights = await trainer.exportWeights();
        return undefined;
      }
      return ++waited >= patience ? "stop" : undefined;
    },
    async end(trainer: Trainer) {
      if (weights) await trainer.loadWeights(weights);
    },
  };
}

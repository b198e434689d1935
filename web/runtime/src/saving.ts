/** A callback that saves a run while it goes on. */

import { InvalidInputError } from "./errors.ts";
import type { Callback } from "./fit.ts";
import { requireWhole } from "./inputs.ts";
import { monitored, signOf, type Mode } from "./monitor.ts";
import type { Store } from "./store.ts";

export interface SavingOptions {
  /** Saves whenever so many steps have been done since the last time. */
  everySteps?: number;
  /** Saves at the end of every so many epochs; 1 by default, unless `everySteps` is given. */
  everyEpochs?: number;
  /** Checkpoints that are kept beside the best; 2 by default. */
  keep?: number;
  /** "loss" or a metric of the validation: its best checkpoint is kept, too. */
  best?: string;
  /** Whether less is better; by default so for "loss" and nothing else. */
  mode?: Mode;
  /** Where files are kept; by default the best storage of this browser. */
  store?: Store;
}

/** For `fit`: saves the run under a name; `Trainer.resume(name)` continues it. */
export function saving(name: string, options: SavingOptions = {}): Callback {
  const { everySteps, keep = 2, best, store } = options;
  const everyEpochs = options.everyEpochs ?? (everySteps === undefined ? 1 : Infinity);
  for (const [label, value] of Object.entries({ everySteps, everyEpochs })) {
    if (value === undefined || value >= 1) continue;
    throw new InvalidInputError(`${label} is ${String(value)}, expected 1 or more`);
  }
  requireWhole(keep, "keep", 1);
  const sign = signOf(best, options.mode);
  const where = store ? { store } : {};
  let record = Infinity;
  let savedStep: number | undefined;
  return {
    async on(event, trainer) {
      if (event.kind === "steps") savedStep ??= (event.steps[0]?.step ?? 1) - 1;
      if (event.kind === "validation" && best !== undefined) {
        const value = sign * monitored(event, best);
        if (!(value < record)) return undefined;
        record = value;
        await trainer.saveCheckpoint(name, { best: true, ...where });
      }
      const due = event.kind === "epoch" ? (event.epoch + 1) % everyEpochs === 0
        : event.kind === "steps" && trainer.step - (savedStep ?? 0) >= (everySteps ?? Infinity);
      if (!due) return undefined;
      savedStep = trainer.step;
      await trainer.saveCheckpoint(name, { keep, ...where });
      return undefined;
    },
  };
}

/** How `fit` gets over steps that go wrong: what a person may choose. */

import { requireNumber } from "./arguments.ts";
import { requireWhole } from "./inputs.ts";
import { EVERY_STEPS } from "./journal.ts";
import type { Guard } from "./slice.ts";

export interface RecoveryOptions {
  /** Attempts in one run before it fails, 4 by default; 0 only finds out what went wrong. */
  attempts?: number;
  /** What an attempt multiplies the learning rate with; 0.25 by default. */
  factor?: number;
  /** A picture of the state is taken every so many steps, 50 by default. */
  everySteps?: number;
  /** A loss so many times the largest of the run's first ten has exploded; 1000 by default. */
  explosion?: number;
  /** A loss so many deviations above its running mean is a spike; 8 by default. */
  spike?: number;
  /** Whether a spike is taken back like a loss that is not finite; by default it is an event. */
  rollBackSpikes?: boolean;
}

export interface RecoveryPlan {
  readonly attempts: number;
  readonly factor: number;
  readonly guard: Guard;
}

/** The plan of checked options; undefined for `false`.  Raises InvalidInputError. */
export function recoveryPlan(options: RecoveryOptions | false): RecoveryPlan | undefined {
  if (options === false) return undefined;
  const { attempts = 4, factor = 0.25, everySteps = EVERY_STEPS } = options;
  const { explosion = 1000, spike = 8, rollBackSpikes = false } = options;
  requireWhole(attempts, "recovery.attempts", 0);
  requireWhole(everySteps, "recovery.everySteps", 1);
  requireNumber(factor, "recovery.factor", 0, { high: 1 });
  requireNumber(explosion, "recovery.explosion", 1);
  requireNumber(spike, "recovery.spike", 0);
  return {
    attempts, factor, guard: { everySteps, explosion, deviations: spike, rollBackSpikes },
  };
}

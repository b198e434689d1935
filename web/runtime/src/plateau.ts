/** Lowers the learning rate when a validation no longer gets better. */

import { requireNumber, requireOneOf } from "./arguments.ts";
import { InvalidInputError } from "./errors.ts";
import type { Callback } from "./fit.ts";
import { requireWhole } from "./inputs.ts";
import { monitored, signOf, type Mode } from "./monitor.ts";

/** The options of `torch.optim.lr_scheduler.ReduceLROnPlateau`. */
export interface PlateauOptions {
  /** "loss", or a metric of the validation. */
  monitor?: string;
  mode?: Mode;
  factor?: number;
  patience?: number;
  threshold?: number;
  threshold_mode?: "rel" | "abs";
  cooldown?: number;
  min_lr?: number;
  eps?: number;
}

/** `ReduceLROnPlateau.step`, one validation at a time: whether the rates are lowered. */
export function plateau(options: PlateauOptions = {}): (value: number) => boolean {
  const { mode = "min", patience = 10, threshold = 1e-4, threshold_mode = "rel" } = options;
  const { cooldown = 0 } = options;
  requireWhole(patience, "patience", 0);
  requireWhole(cooldown, "cooldown", 0);
  requireNumber(threshold, "threshold", 0, { admitsLow: true });
  requireOneOf(threshold_mode, "threshold_mode", ["rel", "abs"]);
  const sign = signOf(undefined, mode);
  let best = sign * Infinity;
  let [bad, resting] = [0, 0];
  const improves = (value: number): boolean => {
    const margin = sign * threshold;
    const limit = threshold_mode === "abs" ? best - margin : best * (1 - margin);
    return sign * value < sign * limit;
  };
  return (value) => {
    if (improves(value)) [best, bad] = [value, 0];
    else bad++;
    if (resting > 0) [resting, bad] = [resting - 1, 0];
    if (bad <= patience) return false;
    [resting, bad] = [cooldown, 0];
    return true;
  };
}

/**
 * A callback for `fit` with `validate`: PyTorch's `ReduceLROnPlateau`.
 *
 * It needs no state of its own in a checkpoint: the validations of the history are replayed, and
 * the rates are those of the checkpoint.
 */
export function reduceOnPlateau(options: PlateauOptions = {}): Callback {
  const { monitor = "loss", factor = 0.1, min_lr = 0, eps = 1e-8 } = options;
  if (!(factor > 0 && factor < 1)) {
    throw new InvalidInputError(`factor is ${String(factor)}, expected a number between 0 and 1`);
  }
  requireNumber(min_lr, "min_lr", 0, { admitsLow: true });
  requireNumber(eps, "eps", 0, { admitsLow: true });
  const lowers = plateau(options);
  let isReplayed = false;
  return {
    on(event, trainer) {
      if (event.kind !== "validation") return undefined;
      const { validations } = trainer.history;
      const past = isReplayed ? [] : validations.slice(0, -1);
      isReplayed = true;
      for (const validation of past) lowers(monitored(validation, monitor));
      if (!lowers(monitored(event, monitor))) return undefined;
      trainer.learningRate = [trainer.learningRate].flat().map((rate) => {
        const lower = Math.max(rate * factor, min_lr);
        return rate - lower > eps ? lower : rate;
      });
      return undefined;
    },
  };
}

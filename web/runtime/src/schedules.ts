/**
 * Learning rate schedules for pages, with the names and options of `torch.optim.lr_scheduler`.
 *
 *     const { cosineAnnealing, linear, scheduled, sequential } = schedules;
 *     const warmUp = linear({ total_iters: 100 });
 *     const rate = sequential([warmUp, cosineAnnealing({ T_max: 900 })], [100]);
 *     trainer.fit(loader, { schedule: scheduled(rate, 1e-3, "step") });
 *
 * A bundle may also carry a scheduler of PyTorch itself (`hearth.Schedule`); these are for choices
 * that a person makes in the page.  They agree with PyTorch to rounding in float64
 * (tests/browser/test_schedules.py).
 */

import { requireFunction, requireNumber, requireOneOf } from "./arguments.ts";
import { InvalidInputError } from "./errors.ts";
import { requireWhole } from "./inputs.ts";
import type { Schedule } from "./learning-rate.ts";

/** The rate after `time` epochs or steps, of a group whose initial rate is `base`. */
export type Rate = (time: number, base: number) => number;

/** A schedule for `fit`; `base` is the initial rate, or one for each parameter group. */
function scheduled(
  rate: Rate, base: number | readonly number[], interval: "epoch" | "step" = "epoch",
): Schedule {
  requireFunction(rate, "rate");
  requireOneOf(interval, "interval", ["epoch", "step"]);
  for (const each of [base].flat()) requireNumber(each, "base", 0, { admitsLow: true });
  return (step, epoch) => {
    const time = interval === "epoch" ? epoch : step;
    return typeof base === "number" ? rate(time, base) : base.map((each) => rate(time, each));
  };
}

/** A fraction `factor` of the rate for the first `total_iters`. */
function constant({ factor = 1 / 3, total_iters = 5 } = {}): Rate {
  requireNumber(factor, "factor", 0, { admitsLow: true });
  requireWhole(total_iters, "total_iters", 0);
  return (time, base) => (time < total_iters ? base * factor : base);
}

/** From `start_factor` to `end_factor` of the rate in `total_iters`: a warm-up. */
function linear(
  { start_factor = 1 / 3, end_factor = 1, total_iters = 5 } = {},
): Rate {
  requireNumber(start_factor, "start_factor", 0);
  requireNumber(end_factor, "end_factor", 0, { admitsLow: true });
  requireWhole(total_iters, "total_iters", 1);
  return (time, base) => {
    const share = Math.min(time, total_iters) / total_iters;
    return base * (start_factor + (end_factor - start_factor) * share);
  };
}

/** Times `gamma` every `step_size`. */
function step({ step_size, gamma = 0.1 }: { step_size: number; gamma?: number }): Rate {
  requireWhole(step_size, "step_size", 1);
  requireNumber(gamma, "gamma", 0, { admitsLow: true });
  return (time, base) => base * gamma ** Math.floor(time / step_size);
}

/** Times `gamma` at each milestone. */
function multiStep(
  { milestones, gamma = 0.1 }: { milestones: readonly number[]; gamma?: number },
): Rate {
  for (const milestone of milestones) requireWhole(milestone, "milestones", 0);
  requireNumber(gamma, "gamma", 0, { admitsLow: true });
  return (time, base) => base * gamma ** milestones.filter((at) => at <= time).length;
}

/** Times `gamma` every time. */
function exponential({ gamma }: { gamma: number }): Rate {
  requireNumber(gamma, "gamma", 0, { admitsLow: true });
  return (time, base) => base * gamma ** time;
}

/** Down to nothing in `total_iters`, along a power of what is left. */
function polynomial({ total_iters = 5, power = 1 } = {}): Rate {
  requireWhole(total_iters, "total_iters", 1);
  requireNumber(power, "power", 0);
  return (time, base) => base * (1 - Math.min(time, total_iters) / total_iters) ** power;
}

/** Half a cosine down to `eta_min` in `T_max`, and up again (SGDR without restarts). */
function cosineAnnealing({ T_max, eta_min = 0 }: { T_max: number; eta_min?: number }): Rate {
  requireWhole(T_max, "T_max", 1);
  requireNumber(eta_min, "eta_min", 0, { admitsLow: true });
  return (time, base) => halfCosine(base, eta_min, time / T_max);
}

/** The same in cycles of `T_0`, each `T_mult` times as long (Loshchilov and Hutter 2017, SGDR). */
function cosineAnnealingWarmRestarts(
  { T_0, T_mult = 1, eta_min = 0 }: { T_0: number; T_mult?: number; eta_min?: number },
): Rate {
  requireWhole(T_0, "T_0", 1);
  requireWhole(T_mult, "T_mult", 1); // less would never end
  requireNumber(eta_min, "eta_min", 0, { admitsLow: true });
  return (time, base) => {
    let [length, rest] = [T_0, time];
    for (; rest >= length; length *= T_mult) rest -= length;
    return halfCosine(base, eta_min, rest / length);
  };
}

export interface OneCycleOptions {
  max_lr: number;
  total_steps: number;
  pct_start?: number;
  anneal_strategy?: "cos" | "linear";
  div_factor?: number;
  final_div_factor?: number;
  three_phase?: boolean;
}

/** Up to `max_lr` and down again (Smith and Topin 2018); the rate of the group is not used. */
function oneCycle(options: OneCycleOptions): Rate {
  const { max_lr, total_steps, pct_start = 0.3, anneal_strategy = "cos" } = options;
  const { div_factor = 25, final_div_factor = 1e4, three_phase = false } = options;
  requireNumber(max_lr, "max_lr", 0);
  requireWhole(total_steps, "total_steps", 1);
  requireNumber(pct_start, "pct_start", 0, { high: 1, admitsLow: true });
  requireOneOf(anneal_strategy, "anneal_strategy", ["cos", "linear"]);
  requireNumber(div_factor, "div_factor", 0);
  requireNumber(final_div_factor, "final_div_factor", 0);
  const initial = max_lr / div_factor;
  const last = initial / final_div_factor;
  const top = pct_start * total_steps - 1;
  const phases: readonly (readonly [number, number, number])[] = three_phase
    ? [[top, initial, max_lr], [2 * top, max_lr, initial], [total_steps - 1, initial, last]]
    : [[top, initial, max_lr], [total_steps - 1, max_lr, last]];
  return (time) => {
    let begin = 0;
    for (const [end, from, to] of phases) {
      if (time <= end) {
        const share = (time - begin) / (end - begin);
        return anneal_strategy === "cos" ? halfCosine(from, to, share) : from + (to - from) * share;
      }
      begin = end;
    }
    return last;
  };
}

/** One rate after another: each begins anew at its milestone. */
function sequential(rates: readonly Rate[], milestones: readonly number[]): Rate {
  if (milestones.length !== rates.length - 1) {
    throw new InvalidInputError(`${String(rates.length)} rates need ${String(rates.length - 1)} \
milestones, ${String(milestones.length)} are given`);
  }
  return (time, base) => {
    const passed = milestones.filter((at) => at <= time).length;
    return rates[passed]?.(time - (milestones[passed - 1] ?? 0), base) ?? base;
  };
}

/** All of them at once: the product of their factors. */
function chained(...rates: readonly Rate[]): Rate {
  return (time, base) => rates.reduce((rate, next) => rate * next(time, 1), base);
}

function halfCosine(from: number, to: number, share: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * share))) / 2;
}

/** Every form of a schedule, and `scheduled`, which makes one for `fit`. */
export const schedules = {
  scheduled, constant, linear, step, multiStep, exponential, polynomial, cosineAnnealing,
  cosineAnnealingWarmRestarts, oneCycle, sequential, chained,
};

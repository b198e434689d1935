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

import { InvalidInputError } from "./errors.ts";
import type { Schedule } from "./learning-rate.ts";

/** The rate after `time` epochs or steps, of a group whose initial rate is `base`. */
export type Rate = (time: number, base: number) => number;

/** A schedule for `fit`; `base` is the initial rate, or one for each parameter group. */
function scheduled(
  rate: Rate, base: number | readonly number[], interval: "epoch" | "step" = "epoch",
): Schedule {
  return (step, epoch) => {
    const time = interval === "epoch" ? epoch : step;
    return typeof base === "number" ? rate(time, base) : base.map((each) => rate(time, each));
  };
}

/** A fraction `factor` of the rate for the first `total_iters`. */
function constant({ factor = 1 / 3, total_iters = 5 } = {}): Rate {
  return (time, base) => (time < total_iters ? base * factor : base);
}

/** From `start_factor` to `end_factor` of the rate in `total_iters`: a warm-up. */
function linear(
  { start_factor = 1 / 3, end_factor = 1, total_iters = 5 } = {},
): Rate {
  return (time, base) => {
    const share = Math.min(time, total_iters) / total_iters;
    return base * (start_factor + (end_factor - start_factor) * share);
  };
}

/** Times `gamma` every `step_size`. */
function step({ step_size, gamma = 0.1 }: { step_size: number; gamma?: number }): Rate {
  return (time, base) => base * gamma ** Math.floor(time / step_size);
}

/** Times `gamma` at each milestone. */
function multiStep(
  { milestones, gamma = 0.1 }: { milestones: readonly number[]; gamma?: number },
): Rate {
  return (time, base) => base * gamma ** milestones.filter((at) => at <= time).length;
}

/** Times `gamma` every time. */
function exponential({ gamma }: { gamma: number }): Rate {
  return (time, base) => base * gamma ** time;
}

/** Down to nothing in `total_iters`, along a power of what is left. */
function polynomial({ total_iters = 5, power = 1 } = {}): Rate {
  return (time, base) => base * (1 - Math.min(time, total_iters) / total_iters) ** power;
}

/** Half a cosine down to `eta_min` in `T_max`, and up again (SGDR without restarts). */
function cosineAnnealing({ T_max, eta_min = 0 }: { T_max: number; eta_min?: number }): Rate {
  return (time, base) => halfCosine(base, eta_min, time / T_max);
}

/** The same in cycles of `T_0`, each `T_mult` times as long (Loshchilov and Hutter 2017, SGDR). */
function cosineAnnealingWarmRestarts(
  { T_0, T_mult = 1, eta_min = 0 }: { T_0: number; T_mult?: number; eta_min?: number },
): Rate {
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

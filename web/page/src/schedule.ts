/** How the learning rate changes over a run, and how far the run is. */

import type { DataLoader, Schedule, Trainer } from "../../runtime/src/index.ts";
import type { Hearth } from "./hearth.ts";

export const SHAPES = {
  constant: "constant",
  cosine: "cosine to 0",
  warmup: "warm-up, then cosine",
  onecycle: "one cycle",
  step: "a tenth after each third",
} as const;

export type Shape = keyof typeof SHAPES;

/** How far a run is, in batches of the size of now: a run may find another one between epochs. */
export interface Progress {
  done: number;
  total: number;
}

/** The progress of a run before its next batch. */
export function progressOf({ cursor }: Trainer, { length }: DataLoader, epochs: number): Progress {
  return { done: cursor.epoch * length + cursor.batch, total: epochs * length };
}

/**
 * The schedule of a run.  `base` is asked before each step, so that it is live; how many steps there
 * are is asked then, too, because it is known with the batch size: not before the run begins.
 */
export function scheduleOf(
  { schedules }: Hearth, shape: Shape, trainer: Trainer, loader: DataLoader, epochs: number,
  base: () => number,
): Schedule {
  let known = { total: NaN, factor: (_: number, __: number): number => 1 };
  return (step, epoch) => {
    const begun = trainer.step - trainer.cursor.batch; // steps before this epoch
    const done = epoch * loader.length + step - begun;
    const { total } = progressOf(trainer, loader, epochs);
    if (known.total !== total) known = { total, factor: factorOf(schedules, shape, Math.max(1, total)) };
    return base() * known.factor(Math.min(done, total), 1);
  };
}

function factorOf(schedules: Hearth["schedules"], shape: Shape, steps: number) {
  const warmUp = Math.max(1, Math.round(steps / 10));
  switch (shape) {
    case "constant":
      return schedules.constant({ factor: 1, total_iters: 0 });
    case "cosine":
      return schedules.cosineAnnealing({ T_max: steps });
    case "warmup":
      return schedules.sequential([
        schedules.linear({ start_factor: 0.05, total_iters: warmUp }),
        schedules.cosineAnnealing({ T_max: Math.max(1, steps - warmUp) }),
      ], [warmUp]);
    case "onecycle":
      return schedules.oneCycle({ max_lr: 1, total_steps: steps + 1 });
    case "step": {
      const third = Math.max(1, Math.ceil(steps / 3));
      return schedules.step({ step_size: third });
    }
  }
}

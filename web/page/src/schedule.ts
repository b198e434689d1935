/** How the learning rate changes over a run, and where in the run a step is. */

import type { Cursor, DataLoader, Schedule } from "../../runtime/src/index.ts";
import type { Hearth } from "./hearth.ts";

export const SHAPES = {
  constant: "constant",
  cosine: "cosine to 0",
  warmup: "warm-up, then cosine",
  onecycle: "one cycle",
  step: "a tenth after each third",
} as const;

export type Shape = keyof typeof SHAPES;

/** The steps of a run.  How many there are is known with its batch size: not before it begins. */
export class RunSteps {
  /** The trainer is after `step` steps, and goes on `from` a place in the data. */
  constructor(
    private readonly loader: DataLoader, private readonly epochs: number,
    private readonly step: number, private readonly from: Cursor | undefined,
  ) {}

  get total(): number {
    return this.epochs * this.loader.length;
  }

  /** How many steps of this run there are before a step of the trainer. */
  before(step: number): number {
    const { epoch, batch } = this.from ?? { epoch: 0, batch: 0 };
    return step - this.step + epoch * this.loader.length + batch;
  }
}

/** The schedule of a run; `base` is asked before each step, so that it is live. */
export function scheduleOf(
  { schedules }: Hearth, shape: Shape, run: RunSteps, base: () => number,
): Schedule {
  let factor: ReturnType<typeof factorOf> | undefined;
  return (step) => {
    factor ??= factorOf(schedules, shape, Math.max(1, run.total));
    return base() * factor(Math.min(run.before(step), run.total), 1);
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

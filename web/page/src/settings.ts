/** What a person chooses for a run, kept in this browser so that a reload goes on with it. */

import type { Schedule } from "../../runtime/src/index.ts";
import type { Hearth } from "./hearth.ts";

/** How the learning rate changes over a run. */
export const SHAPES = {
  constant: "constant",
  cosine: "cosine to 0",
  warmup: "warm-up, then cosine",
  onecycle: "one cycle",
  step: "a tenth after each third",
} as const;

export type Shape = keyof typeof SHAPES;

export interface Settings {
  epochs: number;
  batchSize: number;
  /** The base of the schedule. */
  learningRate: number;
  shape: Shape;
  /** Of the order of the samples. */
  seed: number;
}

/** A run that a reload goes on with. */
export interface Plan extends Settings {
  /** Whether it was training when it was kept. */
  running: boolean;
  /** Whether it did not come to its end. */
  unfinished: boolean;
}

export const LIMITS = { epochs: [1, 10_000], batchSize: [1, 4096] } as const;

/** The schedule of a run of `steps`; `base` is asked before each of them, so that it is live. */
export function scheduleOf(
  { schedules }: Hearth, shape: Shape, steps: number, base: () => number,
): Schedule {
  const factor = factorOf(schedules, shape, Math.max(1, steps));
  return (step) => base() * factor(Math.min(step, steps), 1);
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

/** The plan kept under a name; undefined if there is none, or storage is closed to the page. */
export function readPlan(name: string): Plan | undefined {
  try {
    const text = localStorage.getItem(name);
    return text === null ? undefined : JSON.parse(text) as Plan;
  } catch {
    return undefined;
  }
}

/** Keeps a plan, or forgets it; without storage a reload starts anew, and nothing else is lost. */
export function keepPlan(name: string, plan: Plan | undefined): void {
  try {
    if (plan) localStorage.setItem(name, JSON.stringify(plan));
    else localStorage.removeItem(name);
  } catch {
    // A private window may refuse.
  }
}

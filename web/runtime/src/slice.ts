/**
 * A slice: the few training steps that cross to the worker in one message.
 *
 * A message costs as much as the step of a small model, so `fit` sends as many steps at once as
 * take about 12 ms: the worker stays free for a prediction in between, and a GPU gets the whole
 * slice without waiting for a loss.
 */

import type { TrainResult } from "./engine.ts";
import { errorToData, type ErrorData } from "./errors.ts";
import type { Inputs } from "./inputs.ts";
import type { WatchOptions } from "./loss-watch.ts";

export interface Batch {
  x: Inputs;
  y?: Inputs | undefined;
  /** How many samples it holds, where that is known. */
  samples?: number | undefined;
}

/** The batches of a training step, mostly one, and its learning rates where they change. */
export interface ScheduledStep {
  batches: readonly Batch[];
  rates?: readonly number[] | undefined;
}

/** What keeps a run from going wrong unnoticed; sent with every slice of it. */
export interface Guard extends WatchOptions {
  /** Steps between the pictures of the state that the run can go back to. */
  everySteps: number;
}

/** A slice of a run; runs are told apart by their numbers. */
export interface SliceRequest {
  run: number;
  steps: readonly ScheduledStep[];
  guard: Guard | undefined;
}

/** What a slice came to: the steps that were taken, and the error that ended it early. */
export interface SliceResult {
  steps: readonly TrainResult[];
  /** From the end of the slice before, or from its beginning if the device had nothing to do. */
  ms: number;
  failure?: ErrorData | undefined;
  /** The memory of batches that the engine has done with. */
  spent?: readonly ArrayBuffer[];
}

/** A step that the device has got. */
export interface LaunchedStep {
  result: Promise<TrainResult>;
}

/** Takes slices one after another; the next is launched while the last one's losses are awaited. */
export class Slices {
  private launched: Promise<unknown> = Promise.resolve();
  private failedRun: number | undefined;
  private ended = 0;

  constructor(private readonly launch: (step: ScheduledStep) => Promise<LaunchedStep>) {}

  /** The first step that fails ends its slice, and all later slices of its run are empty. */
  async take(run: number, taken: readonly ScheduledStep[]): Promise<SliceResult> {
    const launched = this.launched.then(() => this.launchAll(run, taken));
    this.launched = launched;
    const { begin, results } = await launched;
    const settled = await Promise.allSettled(results);
    const now = performance.now();
    const ms = now - Math.max(begin, this.ended);
    this.ended = now;
    const end = settled.findIndex((step) => step.status === "rejected");
    const good = end < 0 ? settled : settled.slice(0, end); // later ones follow from a bad state
    const steps = good.flatMap((step) => (step.status === "fulfilled" ? [step.value] : []));
    const failed = settled.find((step) => step.status === "rejected");
    return { steps, ms, failure: failed && errorToData(failed.reason) };
  }

  /** The failed run goes on. */
  forgive(): void {
    this.failedRun = undefined;
  }

  private async launchAll(run: number, steps: readonly ScheduledStep[]) {
    const begin = performance.now();
    const results: Promise<TrainResult>[] = [];
    for (const step of steps) {
      if (this.failedRun === run) break;
      const launch = this.launch(step);
      const result = launch.then((launched) => launched.result);
      result.catch(() => { this.failedRun = run; });
      results.push(result);
      await launch.catch(() => { this.failedRun = run; });
    }
    return { begin, results };
  }
}

const SLICE_MS = 12;
const MOST_STEPS = 64;

/** How many steps make a slice, learnt from how long the last ones took. */
export class Pace {
  private stepMs = Infinity;

  get steps(): number {
    return Math.max(1, Math.min(MOST_STEPS, Math.floor(SLICE_MS / this.stepMs)));
  }

  note({ steps, ms }: SliceResult): void {
    const stepMs = ms / steps.length;
    // The first steps of a program are slow: it believes good news at once, bad news by halves.
    this.stepMs = this.stepMs < stepMs ? (this.stepMs + stepMs) / 2 : stepMs;
  }
}

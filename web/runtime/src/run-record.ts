/**
 * What a training run knows of itself besides its state: where in the data it is, and its history.
 *
 * It travels inside the checkpoint (`tools/record-file.ts`), so that a run goes on in the middle of
 * an epoch with its curves.
 */

import type { Backend } from "./device.ts";
import type { Scalars, TrainResult } from "./engine.ts";
import type { Bytes } from "./safetensors.ts";

/** The next batch of a run. */
export interface Cursor {
  /** Completed epochs. */
  readonly epoch: number;
  /** Completed batches of the epoch that has begun. */
  readonly batch: number;
}

/** What the history keeps of a validation: no counts. */
export interface Validation extends Scalars {
  /** Completed training steps. */
  step: number;
}

/** The weights of the best validation of a run that gives them back at its end. */
export interface BestWeights {
  /** Completed training steps. */
  step: number;
  /** As `exportWeights` gives them. */
  weights: Bytes;
}

export interface RunRecord {
  /** Completed steps when the run began: validations before are another run's. */
  runStep: number;
  /** Of the epoch's batches, in a run that finds it itself. */
  batchSize: number | undefined;
  /** The device that it was found on. */
  batchSizeFor: Backend | undefined;
  /** Completed epochs. */
  epoch: number;
  /** Completed steps when the epoch began. */
  epochStep: number;
  /** Batches of the epoch before that: of a run that went on with another number a step. */
  epochBatch: number;
  /** Batches that a step of the epoch takes. */
  stepBatches: number;
  /** The losses of `fit`, one after another; the last is of step `lossStep`. */
  losses: number[];
  lossStep: number;
  /** What the same steps tell besides, a list for each name; NaN where a step did not. */
  metrics: Record<string, number[]>;
  validations: Validation[];
  /** Kept by `earlyStopping`. */
  best: BestWeights | undefined;
  /** Whether the epoch that ended last is still to be validated. */
  owesValidation: boolean;
  /** What the rates of the schedule are multiplied with, after steps that went wrong. */
  rateScale: number;
}

export function newRecord(step: number): RunRecord {
  return {
    runStep: step, batchSize: undefined, batchSizeFor: undefined, epoch: 0, epochStep: step,
    epochBatch: 0, stepBatches: 1, losses: [], lossStep: step,
    metrics: {}, validations: [], best: undefined, owesValidation: false, rateScale: 1,
  };
}

/** Appends steps; of a run that also trained outside `fit` the last unbroken stretch is kept. */
export function noteSteps(record: RunRecord, steps: readonly TrainResult[]): void {
  for (const { step, loss, metrics } of steps) {
    if (step !== record.lossStep + 1) Object.assign(record, { losses: [], metrics: {} });
    for (const name of Object.keys(metrics)) {
      record.metrics[name] ??= record.losses.map(() => NaN);
    }
    for (const [name, values] of Object.entries(record.metrics)) values.push(metrics[name] ?? NaN);
    record.losses.push(loss);
    record.lossStep = step;
  }
}

/** Forgets the last steps. */
export function dropSteps(record: RunRecord, count: number): void {
  for (const values of [record.losses, ...Object.values(record.metrics)]) {
    values.length = Math.max(0, values.length - count);
  }
  record.lossStep -= count;
}

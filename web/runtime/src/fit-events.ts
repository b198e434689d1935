/** What `fit` tells of a run.  Epochs count from 0. */

import type { DeviceInfo } from "./device.ts";
import type { Diagnosis } from "./tools/diagnosis.ts";
import type { EvaluateResult } from "./engine.ts";

export interface StepReport {
  /** Completed training steps, this one included. */
  step: number;
  /** The mean of its batches', where the step takes several. */
  loss: number;
  /** Of the first parameter group. */
  learningRate: number;
  /** Milliseconds; of several steps in one slice their mean. */
  ms: number;
  /**
   * Before it is clipped; where the step clips by norm, or was compiled with
   * `TrainStep(…, gradient_norm=True)`.
   */
  gradientNorm?: number;
  /**
   * What the training step tells of its batch besides: the metrics in training mode of a bundle
   * that was compiled with `TrainStep(…, training_metrics=True)`, and the penalty.
   */
  metrics: Readonly<Record<string, number>>;
}

export interface StepsEvent {
  kind: "steps";
  epoch: number;
  steps: readonly StepReport[];
}

/** The loss and the metrics of an epoch are the means of its steps'. */
export interface EpochEvent {
  kind: "epoch";
  epoch: number;
  step: number;
  loss: number;
  metrics: Readonly<Record<string, number>>;
  ms: number;
}

export interface ValidationEvent extends EvaluateResult {
  kind: "validation";
  epoch: number;
  step: number;
}

/** A loss far above its running mean. */
export interface SpikeEvent {
  kind: "spike";
  epoch: number;
  step: number;
  loss: number;
  /** Above the mean. */
  deviations: number;
}

/** A step went wrong and was taken back; the steps after `restored` follow once more. */
export interface RecoveryEvent {
  kind: "recovery";
  epoch: number;
  /** The step that went wrong, and how. */
  step: number;
  reason: string;
  /** Which layer went first; missing where its device failed meanwhile. */
  diagnosis?: Diagnosis;
  /** The step of the last good state. */
  restored: number;
  /** Of the first parameter group, from now on. */
  learningRate: number;
  /** Whether the batch that went wrong is left out: it had before. */
  skipped: boolean;
}

/** A device failed; the run goes on, after some steps were taken again. */
export interface DeviceEvent {
  kind: "device";
  epoch: number;
  step: number;
  device: DeviceInfo;
  reason: string;
  repeated: number;
}

/**
 * The batch size of a loader that left it open, before the first step; and of the epochs from
 * `epoch` on, before the event of the one that ends, where training has moved to the GPU.
 */
export interface BatchSizeEvent {
  kind: "batchSize";
  epoch: number;
  step: number;
  batchSize: number;
  /** Milliseconds of a training step by batch size, as they were measured. */
  stepMs: Readonly<Record<number, number>>;
}

export type FitEvent =
  | BatchSizeEvent | StepsEvent | EpochEvent | ValidationEvent | SpikeEvent | RecoveryEvent
  | DeviceEvent;

/** What the page knows of its run while it goes on: steps, the place in the data, the history. */

import {
  dropSteps, newRecord, noteSteps, type Cursor, type RunRecord, type Validation,
} from "./run-record.ts";
import type { SliceResult } from "./slice.ts";

/** An epoch that has begun, after so many steps. */
type Begun = EpochBatches & Pick<RunRecord, "epoch" | "epochStep" | "epochBatch">;

/** The batches of an epoch: how many a step takes, and of what size where the run finds it. */
export type EpochBatches = Pick<RunRecord, "stepBatches" | "batchSize" | "batchSizeFor">;

export class RunLog {
  record: RunRecord;
  private begun: Begun[] = [];

  /** `completed` training steps have been taken. */
  constructor(public completed: number) {
    this.record = newRecord(completed);
  }

  /** The epoch and the batch in it that come next. */
  get cursor(): Cursor {
    const { epoch, epochStep, epochBatch, stepBatches } = this.record;
    return { epoch, batch: epochBatch + (this.completed - epochStep) * stepBatches };
  }

  /** Replies may come in another order than their steps. */
  advance(step = 0): void {
    this.completed = Math.max(this.completed, step);
  }

  /** A run begins, and goes on with none. */
  beginRun(): void {
    Object.assign(this.record, { runStep: this.completed, best: undefined });
  }

  /**
   * The next step is of this epoch, after so many batches of it, or after a validation first.  The
   * last step of the epoch may take fewer batches than the others.
   */
  beginEpoch(
    { epoch, batch }: Cursor, batches: EpochBatches, owesValidation = false,
  ): void {
    const { stepBatches } = batches;
    const epochBatch = batch % stepBatches;
    const epochStep = this.completed - (batch - epochBatch) / stepBatches;
    const begun = { ...batches, epoch, epochStep, epochBatch };
    Object.assign(this.record, begun, { owesValidation });
    this.begun.push(begun);
  }

  /** Whether the epoch before a place in the data ended, and its validation did not. */
  owesValidation({ epoch, batch }: Cursor): boolean {
    return epoch > 0 && batch === 0 && this.record.owesValidation;
  }

  noteValidation(validation: Validation): void {
    this.record.validations.push(validation);
    this.record.owesValidation = false;
  }

  /** The batches of a step are left out. */
  skipStep(): void {
    this.record.epochStep--;
  }

  note({ steps, failure }: SliceResult): void {
    this.advance(steps.at(-1)?.step);
    this.advance(failure?.step);
    noteSteps(this.record, steps);
  }

  /** Steps after `restored` were taken back, and some of them again. */
  rewind(restored: number, { steps, step }: Pick<SliceResult, "steps"> & { step: number }): void {
    const { record } = this;
    record.validations = record.validations.filter((validation) => validation.step <= step);
    if (record.best && record.best.step > step) record.best = undefined;
    dropSteps(record, Math.max(0, record.lossStep - restored));
    noteSteps(record, steps);
    this.completed = step;
    while (record.epochStep > step && this.begun.length > 1) {
      this.begun.pop();
      Object.assign(record, this.begun.at(-1));
    }
  }

  /** Goes on with another run. */
  replace(completed: number, record = newRecord(completed)): void {
    this.completed = completed;
    this.record = record;
    this.begun = [];
  }
}

/**
 * What is shown of a run: curves, figures, the last score, and a log.
 *
 * Numbers that change with every step stay out of Svelte's state: curves hear of them by callback,
 * figures are replaced as a whole a few times a second.
 */

import type { StepReport, Trainer } from "../../runtime/src/index.ts";
import { BinnedCurve } from "./binned.ts";

/** What the figures show; `score` is accuracy where the model has it, else the test loss. */
export interface Figures {
  step: number;
  loss: number;
  stepMs: number;
  samplesPerSecond: number;
  learningRate: number;
  gradientNorm?: number | undefined;
}

export interface Score {
  loss: number;
  accuracy?: number | undefined;
}

/** Something that happened to the run, for its log. */
export interface Note {
  step: number;
  text: string;
  tone: "good" | "bad";
}

const SHOW_EVERY_MS = 100;
const MOST_NOTES = 100;

export class RunView {
  figures = $state.raw<Figures>();
  score = $state.raw<Score>();
  notes = $state.raw<readonly Note[]>([]);
  readonly loss = new BinnedCurve();
  readonly testLoss = new BinnedCurve();
  readonly accuracy = new BinnedCurve();
  /** Called after the curves have changed. */
  readonly watchers = new Set<() => void>();
  private shownAt = 0;
  private last: StepReport | undefined;

  /** Steps of batches of a size; figures follow a few times a second, or now. */
  steps(reports: readonly StepReport[], batchSize: number, now = false): void {
    for (const { step, loss } of reports) this.loss.push(step, loss);
    this.last = reports.at(-1) ?? this.last;
    const time = performance.now();
    if (!this.last || (time - this.shownAt < SHOW_EVERY_MS && !now)) return;
    this.shownAt = time;
    const { step, loss, ms, learningRate, gradientNorm } = this.last;
    this.figures = {
      step, loss, stepMs: ms, samplesPerSecond: 1000 * batchSize / ms, learningRate, gradientNorm,
    };
  }

  /** What the test set says of the model after a step. */
  evaluated(step: number, loss: number, accuracy: number | undefined): void {
    this.score = { loss, accuracy };
    this.testLoss.push(step, loss);
    if (accuracy !== undefined) this.accuracy.push(step, accuracy);
    this.redraw();
  }

  /** The curves of before a reload. */
  history({ losses, lossStep, validations }: Trainer["history"]): void {
    losses.forEach((loss, i) => { this.loss.push(lossStep - losses.length + 1 + i, loss); });
    for (const { step, loss, metrics } of validations) {
      this.evaluated(step, loss, metrics["accuracy"]);
    }
    this.redraw();
  }

  note(note: Note): void {
    this.notes = [note, ...this.notes].slice(0, MOST_NOTES);
  }

  redraw(): void {
    for (const watcher of this.watchers) watcher();
  }

  /** Forgets the run. */
  clear(): void {
    for (const curve of [this.loss, this.testLoss, this.accuracy]) curve.clear();
    this.figures = this.score = this.last = undefined;
    this.notes = [];
    this.redraw();
  }
}

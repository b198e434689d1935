/**
 * What is shown of a run: curves, figures, the last score, and a log.
 *
 * Numbers that change with every step stay out of Svelte's state: curves hear of them by callback,
 * figures are replaced as a whole a few times a second.
 */

import type { FitEvent, Manifest, StepReport, Trainer } from "../../runtime/src/index.ts";
import { BinnedCurve, RunningMean } from "./binned.ts";
import { shownMetric, type ShownMetric } from "./metrics.ts";

/** What the figures show of the last steps. */
export interface Figures {
  step: number;
  loss: number;
  stepMs: number;
  samplesPerSecond: number;
  learningRate: number;
  gradientNorm: number | undefined;
  /** Of the shown metric over the last steps, where the training step tells it. */
  metric: number | undefined;
}

export interface Score {
  loss: number;
  /** Of the shown metric. */
  metric: number | undefined;
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
  /** What the test set said last. */
  score = $state.raw<Score>();
  /** The mean of the shown metric over the training batches of the last whole epoch. */
  epochMetric = $state.raw<number>();
  notes = $state.raw<readonly Note[]>([]);
  /** The metric of the bundle that is shown. */
  metric = $state.raw<ShownMetric>();
  readonly loss = new BinnedCurve();
  readonly testLoss = new BinnedCurve();
  readonly trainingMetric = new BinnedCurve();
  readonly testMetric = new BinnedCurve();
  /** Called after the curves have changed. */
  readonly watchers = new Set<() => void>();
  private readonly recent = new RunningMean();
  private shownAt = 0;
  private last: StepReport | undefined;

  /** Of which bundle it shows a run. */
  of(manifest: Manifest): void {
    this.metric = shownMetric(manifest);
  }

  /** What a run tells, whose batches have so many samples. */
  hear(event: FitEvent, batchSize: number): void {
    switch (event.kind) {
      case "steps":
        this.steps(event.steps, batchSize);
        break;
      case "batchSize":
        this.note(`batches of ${String(event.batchSize)} train fastest here`, "good", event.step);
        break;
      case "validation":
        this.evaluated(event.step, event);
        break;
      case "epoch":
        this.steps([], batchSize, true);
        this.epochMetric = event.metrics[this.metric?.name ?? ""];
        break;
      case "spike":
        this.note(`the loss jumped to ${event.loss.toPrecision(3)}`, "bad", event.step);
        break;
      case "recovery": {
        const { layer = "", finding = "" } = event.diagnosis ?? {};
        const where = layer ? ` (${layer}: ${finding})` : "";
        for (const curve of this.curves) curve.truncate(event.restored);
        this.note(`${event.reason}${where}. Back to step ${String(event.restored)}, learning rate `
          + event.learningRate.toPrecision(2), "bad", event.step);
        break;
      }
      case "device":
        this.note(`${event.reason}; going on with ${event.device.backend}`, "bad", event.step);
        break;
    }
    this.redraw();
  }

  /** What the test set says of the model after a step. */
  evaluated(step: number, { loss, metrics }: Pick<Trainer["history"]["validations"][number], "loss" | "metrics">): void {
    const metric = metrics[this.metric?.name ?? ""];
    this.score = { loss, metric };
    this.testLoss.push(step, loss);
    if (metric !== undefined) this.testMetric.push(step, metric);
    this.redraw();
  }

  /** The curves of before a reload. */
  history({ losses, lossStep, metrics, validations }: Trainer["history"]): void {
    const first = lossStep - losses.length + 1;
    const told = metrics[this.metric?.name ?? ""] ?? [];
    losses.forEach((loss, i) => { this.stepped(first + i, loss, told[i]); });
    for (const validation of validations) this.evaluated(validation.step, validation);
    this.redraw();
  }

  note(text: string, tone: Note["tone"], step: number): void {
    this.notes = [{ step, text, tone }, ...this.notes].slice(0, MOST_NOTES);
  }

  redraw(): void {
    for (const watcher of this.watchers) watcher();
  }

  /** Forgets the run. */
  clear(): void {
    for (const curve of this.curves) curve.clear();
    this.recent.clear();
    this.figures = this.score = this.last = this.epochMetric = undefined;
    this.notes = [];
    this.redraw();
  }

  /** The first and the last step of any curve: all are drawn over the same. */
  extent(): [number, number] {
    const ends = this.curves.flatMap((curve) => curve.extent() ?? []);
    if (ends.length === 0) return [0, 1];
    const first = Math.min(...ends);
    return [first, Math.max(...ends, first + 1)];
  }

  private get curves(): readonly BinnedCurve[] {
    return [this.loss, this.testLoss, this.trainingMetric, this.testMetric];
  }

  /** Figures follow a few times a second, or now. */
  private steps(reports: readonly StepReport[], batchSize: number, now = false): void {
    for (const { step, loss, metrics } of reports) {
      this.stepped(step, loss, metrics[this.metric?.name ?? ""]);
    }
    this.last = reports.at(-1) ?? this.last;
    const time = performance.now();
    if (!this.last || (time - this.shownAt < SHOW_EVERY_MS && !now)) return;
    this.shownAt = time;
    const { step, loss, ms, learningRate, gradientNorm } = this.last;
    this.figures = {
      step, loss, stepMs: ms, samplesPerSecond: 1000 * batchSize / ms, learningRate, gradientNorm,
      metric: this.recent.value,
    };
  }

  private stepped(step: number, loss: number, metric = NaN): void {
    this.loss.push(step, loss);
    if (Number.isNaN(metric)) return;
    this.trainingMetric.push(step, metric);
    this.recent.push(metric);
  }
}

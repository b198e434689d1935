/**
 * `trainer.fit`: epochs of slices, with events between them.
 *
 * Two slices are under way at any time, so that the device always has work while the page gathers
 * the next batches and reads the last losses.  No new slice starts before the loop has taken the
 * event of an old one: a page that stops listening stops training.
 */

import { batchesOf, isReadOnce, type Batches } from "./data-loader.ts";
import { errorFromData, InvalidInputError } from "./errors.ts";
import { evaluate } from "./evaluate.ts";
import { requireWhole } from "./inputs.ts";
import { checkedRates, type Schedule } from "./learning-rate.ts";
import type { Cursor } from "./run-record.ts";
import { Pace, type ScheduledBatch, type SliceResult } from "./slice.ts";
import type { Trainer } from "./trainer.ts";

export interface FitOptions {
  /** Passes over the data, 1 by default; those before `from` count. */
  epochs?: number;
  /** Where in the data to begin: `trainer.cursor` goes on with a run that was resumed. */
  from?: Cursor;
  /** Evaluated after every epoch. */
  validate?: Batches;
  /**
   * Asked before every step; by default the PyTorch scheduler of the bundle.  Without either, or
   * with `null`, the rate is `trainer.learningRate`, live.
   */
  schedule?: Schedule | null;
  callbacks?: readonly Callback[];
  /** Ends the run after the steps that are under way; the loop then throws the signal's reason. */
  signal?: AbortSignal;
}

/** What else happens while a run goes on. */
export interface Callback {
  /** Hears every event before the loop does; "stop" ends the run after it. */
  on(event: FitEvent, trainer: Trainer): Promise<"stop" | undefined> | "stop" | undefined;
  /** The run has ended: by itself, stopped, failed, or left by its loop. */
  end?(trainer: Trainer): Promise<void> | undefined;
}

export interface StepReport {
  /** Completed training steps, this one included. */
  step: number;
  loss: number;
  /** Of the first parameter group. */
  learningRate: number;
  /** Milliseconds; of several steps in one slice their mean. */
  ms: number;
  /** Before clipping; where the step clips. */
  gradientNorm?: number;
}

/** Epochs count from 0.  The loss of an epoch is the mean of its steps'. */
export type FitEvent =
  | { kind: "steps"; epoch: number; steps: readonly StepReport[] }
  | { kind: "epoch"; epoch: number; step: number; loss: number; ms: number }
  | {
    kind: "validation"; epoch: number; step: number; loss: number; metrics: Record<string, number>;
  };

interface Launched {
  result: Promise<SliceResult>;
  rates: readonly number[];
}

const START: Cursor = { epoch: 0, batch: 0 };
let lastRun = 0;

/** A training run: iterating over it trains. */
export class Fit implements AsyncIterable<FitEvent> {
  private readonly run = ++lastRun;
  private readonly pace = new Pace();
  private gate: { opened: Promise<void>; open: () => void } | undefined;
  private begun = false;
  private stopped = false;

  constructor(
    private readonly trainer: Trainer, private readonly batches: Batches,
    private readonly options: FitOptions = {},
  ) {
    const { epochs = 1, from = START } = options;
    requireWhole(from.epoch, "from.epoch", 0);
    requireWhole(from.batch, "from.batch", 0);
    requireWhole(epochs, "epochs", 0);
    if (epochs > 1 && isReadOnce(batches)) {
      throw new InvalidInputError(`the batches can be read once only, and epochs is \
${String(epochs)}`, { remedy: "give a DataLoader, or an object that can be iterated again" });
    }
  }

  get paused(): boolean {
    return this.gate !== undefined;
  }

  /** No new step starts until `resume`; those under way end, and their events come. */
  pause(): void {
    if (this.gate) return;
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => { open = resolve; });
    this.gate = { opened, open };
  }

  resume(): void {
    this.gate?.open();
    this.gate = undefined;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FitEvent, void> {
    if (this.begun) throw new InvalidInputError("a run trains once; call fit again");
    this.begun = true;
    const { epochs = 1, from = START, validate, callbacks = [] } = this.options;
    try {
      for (let { epoch, batch } = from; epoch < epochs && this.goesOn(); epoch++, batch = 0) {
        this.trainer.beginEpoch(epoch, batch);
        yield* this.heard(this.trainEpoch(epoch, batch));
        if (validate && this.goesOn()) yield* this.heard(this.validation(validate, epoch));
      }
    } finally {
      for (const callback of callbacks) await callback.end?.(this.trainer);
    }
  }

  private goesOn(): boolean {
    return !this.stopped;
  }

  /** The events, each after the callbacks have heard it. */
  private async *heard(events: AsyncGenerator<FitEvent>): AsyncGenerator<FitEvent> {
    for await (const event of events) {
      for (const callback of this.options.callbacks ?? []) {
        if (await callback.on(event, this.trainer) === "stop") this.stopped = true;
      }
      yield event;
    }
  }

  private async *trainEpoch(epoch: number, skip: number): AsyncGenerator<FitEvent> {
    const begin = performance.now();
    const flight: Launched[] = [];
    const slices = this.slices(epoch, skip);
    let [loss, steps] = [0, 0];
    try {
      for (let more = true; more || flight.length > 0;) {
        if (flight.length === 0) await this.gate?.opened;
        this.options.signal?.throwIfAborted();
        const { value: slice } = more && !this.paused ? await slices.next() : { value: undefined };
        if (slice) flight.push(this.launch(slice));
        else more &&= this.paused;
        if (flight.length === 0 || (slice && flight.length === 1)) continue;
        const { event, failure } = await this.land(flight, epoch);
        loss += event.steps.reduce((sum, report) => sum + report.loss, 0);
        steps += event.steps.length;
        if (event.steps.length > 0) yield event;
        if (failure) throw errorFromData(failure);
      }
    } finally {
      await Promise.allSettled(flight.map(({ result }) => result));
      await slices.return(undefined);
    }
    if (steps + skip === 0) throw new InvalidInputError(`epoch ${String(epoch)} has no batch`);
    if (this.goesOn()) this.trainer.beginEpoch(epoch + 1);
    const ms = performance.now() - begin;
    yield { kind: "epoch", epoch, step: this.trainer.step, loss: loss / steps, ms };
  }

  /** The batches of an epoch, as many at once as make a slice now. */
  private async *slices(
    epoch: number, skip: number,
  ): AsyncGenerator<ScheduledBatch[], undefined> {
    const groups = this.trainer.manifest.optimizer?.groups.length ?? 0;
    const { schedule = this.trainer.schedule } = this.options;
    let { step } = this.trainer;
    let slice: ScheduledBatch[] = [];
    for await (const { x, y } of batchesOf(this.batches, epoch, skip)) {
      const rates = schedule ? checkedRates(schedule(step++, epoch), groups) : undefined;
      slice.push({ x, y, rates });
      if (slice.length < this.pace.steps) continue;
      if (this.stopped) return;
      yield slice;
      slice = [];
    }
    if (slice.length > 0 && !this.stopped) yield slice;
  }

  private launch(slice: readonly ScheduledBatch[]): Launched {
    const [current = NaN] = [this.trainer.learningRate].flat();
    const result = this.trainer.trainSlice(slice, this.run);
    result.catch(() => undefined); // heard when it lands
    return { result, rates: slice.map(({ rates }) => rates?.[0] ?? current) };
  }

  /** The event of the oldest slice under way, with the error that ended it early. */
  private async land(flight: Launched[], epoch: number) {
    const { result, rates } = flight.shift() as Launched;
    const slice = await result;
    if (!slice.failure) this.pace.note(slice);
    const reports = slice.steps.map(({ step, loss, metrics: { norm } }, i): StepReport => ({
      step, loss, learningRate: rates[i] ?? NaN, ms: slice.ms / slice.steps.length,
      ...(norm === undefined ? {} : { gradientNorm: norm }),
    }));
    return { event: { kind: "steps", epoch, steps: reports } as const, failure: slice.failure };
  }

  private async *validation(batches: Batches, epoch: number): AsyncGenerator<FitEvent> {
    const { loss, metrics } = await evaluate(this.trainer, batches, this.options.signal);
    const { step } = this.trainer;
    this.trainer.history.validations.push({ step, loss, metrics });
    yield { kind: "validation", epoch, step, loss, metrics };
  }
}

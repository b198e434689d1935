/** `trainer.fit`: epochs, with events between their slices (`epoch-run.ts`). */

import { requireFunction } from "./arguments.ts";
import { batchSizeOf, chooseBatchSize, restoreBatchSize } from "./auto-batch-size.ts";
import { batchesOf, isReadOnce, requireBatches, type Batches } from "./data-loader.ts";
import { EpochRun, RunControl } from "./epoch-run.ts";
import { InvalidInputError, reasonOf } from "./errors.ts";
import { evaluate } from "./evaluate.ts";
import type { FitEvent } from "./fit-events.ts";
import { requireWhole } from "./inputs.ts";
import { checkedRates, type Schedule } from "./learning-rate.ts";
import { recoveryPlan, type RecoveryOptions } from "./recovery-options.ts";
import type { EpochBatches } from "./run-log.ts";
import type { Cursor } from "./run-record.ts";
import type { Batch, ScheduledStep } from "./slice.ts";
import { prepareTools } from "./tools.ts";
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
  /**
   * Batches that a step takes, 1 by default: their gradients are averaged, and the weights change
   * once.  The last step of an epoch may have fewer.  Its bundle is compiled with
   * `TrainStep(..., accumulate=True)`.
   */
  accumulate?: number;
  callbacks?: readonly Callback[];
  /** Ends the run after the steps that are under way; the loop then throws the signal's reason. */
  signal?: AbortSignal;
  /**
   * What happens after a loss that is not finite or explodes: by default the last good state comes
   * back, and the steps since are taken again at a lower rate.  `false` ends the run there.
   */
  recovery?: RecoveryOptions | false;
}

/** What else happens while a run goes on. */
export interface Callback {
  /** Hears every event before the loop does; "stop" ends the run after it. */
  on(event: FitEvent, trainer: Trainer): Promise<"stop" | undefined> | "stop" | undefined;
  /** The run has ended: by itself, stopped, failed, or left by its loop. */
  end?(trainer: Trainer): Promise<void> | undefined;
}

const START: Cursor = { epoch: 0, batch: 0 };
let lastRun = 0;

/** A training run: iterating over it trains. */
export class Fit implements AsyncIterable<FitEvent> {
  private readonly control: RunControl;
  private begun = false;

  constructor(
    private readonly trainer: Trainer, private readonly batches: Batches,
    private readonly options: FitOptions = {},
  ) {
    const { epochs = 1, accumulate = 1, from, signal, recovery = {} } = options;
    requireWhole(from?.epoch ?? 0, "from.epoch", 0);
    requireWhole(from?.batch ?? 0, "from.batch", 0);
    requireWhole(epochs, "epochs", 0);
    requireBatches(batches, "the batches");
    if (options.validate) requireBatches(options.validate, "validate");
    if (options.schedule) requireFunction(options.schedule, "schedule");
    requireWhole(accumulate, "accumulate", 1);
    if (accumulate > 1 && !("accumulate" in trainer.manifest.programs)) {
      throw new InvalidInputError("this bundle cannot accumulate gradients", {
        why: "its training step is one program, from the batch to the update",
        remedy: "compile it with hearth.TrainStep(..., accumulate=True)",
      });
    }
    if (epochs > 1 && isReadOnce(batches)) {
      throw new InvalidInputError(`the batches can be read once only, and epochs is \
${String(epochs)}`, { remedy: "give a DataLoader, or an object that can be iterated again" });
    }
    const scale = from ? trainer.log.record.rateScale : 1;
    this.control = new RunControl(trainer, ++lastRun, recoveryPlan(recovery), signal, scale);
  }

  get paused(): boolean {
    return this.control.isPaused;
  }

  /** No new step starts until `resume`; those under way end, and their events come. */
  pause(): void {
    this.control.pause();
  }

  resume(): void {
    this.control.resume();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FitEvent, void> {
    if (this.begun) throw new InvalidInputError("a run trains once; call fit again");
    this.begun = true;
    prepareTools();
    const { from, callbacks = [] } = this.options;
    if (!from) this.trainer.log.beginRun();
    try {
      if (from) restoreBatchSize(this.trainer, this.batches);
      let place: Cursor | undefined = from ?? START;
      yield* this.heard(this.firstBatchSize(place));
      while (place) place = yield* this.epochsFrom(place);
    } finally {
      this.trainer.memory.clear();
      for (const callback of callbacks) await callback.end?.(this.trainer);
    }
  }

  /** All epochs; gives the place to go on from if the worker died and another has taken over. */
  private async *epochsFrom(from: Cursor): AsyncGenerator<FitEvent, Cursor | undefined> {
    const { epochs = 1, validate } = this.options;
    const { trainer } = this;
    try {
      if (validate && trainer.log.owesValidation(from)) {
        yield* this.heard(this.validation(validate, from.epoch - 1));
      }
      for (let { epoch, batch } = from; epoch < epochs && this.goesOn(); epoch++, batch = 0) {
        trainer.log.beginEpoch({ epoch, batch }, this.epochBatches);
        yield* this.heard(this.trainEpoch(epoch, batch));
        if (validate && this.goesOn()) yield* this.heard(this.validation(validate, epoch));
      }
      return undefined;
    } catch (error) {
      const { step } = trainer;
      if (isReadOnce(this.batches) || !await trainer.revive()) throw error;
      const { device, cursor, cursor: { epoch } } = trainer;
      const [reason, repeated] = [reasonOf(error), step - trainer.step];
      yield { kind: "device", epoch, step, device, reason, repeated };
      this.control.scale = trainer.log.record.rateScale;
      restoreBatchSize(trainer, this.batches);
      return cursor;
    }
  }

  private get epochBatches(): EpochBatches {
    return { stepBatches: this.accumulate, ...batchSizeOf(this.batches) };
  }

  private get accumulate(): number {
    return this.options.accumulate ?? 1;
  }

  private goesOn(): boolean {
    return !this.control.isStopped;
  }

  /** The events, each after the callbacks have heard it. */
  private async *heard(events: AsyncGenerator<FitEvent>): AsyncGenerator<FitEvent> {
    for await (const event of events) {
      for (const callback of this.options.callbacks ?? []) {
        if (await callback.on(event, this.trainer) === "stop") this.control.isStopped = true;
      }
      yield event;
    }
  }

  private async *trainEpoch(epoch: number, skip: number): AsyncGenerator<FitEvent> {
    const begin = performance.now();
    const run = new EpochRun(this.control, epoch, this.slices(epoch, skip));
    yield* run.events();
    if (run.steps + skip === 0) throw new InvalidInputError(`epoch ${String(epoch)} has no batch`);
    const ms = performance.now() - begin;
    const { epochs = 1, validate } = this.options;
    if (this.goesOn()) {
      const next = { epoch: epoch + 1, batch: 0 };
      const isLast = next.epoch >= epochs;
      const chosen = isLast ? undefined : await chooseBatchSize(this.trainer, this.batches, next);
      // Both before the event: a checkpoint that is written there has the next epoch's batch size.
      this.trainer.log.beginEpoch(next, this.epochBatches, validate !== undefined);
      if (chosen) yield chosen;
    }
    yield { kind: "epoch", epoch, step: this.trainer.step, ...run.means, ms };
  }

  private async *firstBatchSize(place: Cursor): AsyncGenerator<FitEvent> {
    const chosen = await chooseBatchSize(this.trainer, this.batches, place);
    if (chosen) yield chosen;
  }

  /** The steps of an epoch, as many at once as make a slice now. */
  private async *slices(
    epoch: number, skip: number,
  ): AsyncGenerator<ScheduledStep[], undefined> {
    const groups = this.trainer.manifest.optimizer?.groups.length ?? 0;
    const { schedule = this.trainer.schedule } = this.options;
    let { step } = this.trainer;
    let slice: ScheduledStep[] = [];
    for await (const batches of grouped(batchesOf(this.batches, epoch, skip), this.accumulate)) {
      const rates = schedule ? checkedRates(schedule(step++, epoch), groups) : undefined;
      slice.push({ batches, rates });
      if (slice.length < this.control.pace.steps) continue;
      if (!this.goesOn()) return;
      yield slice;
      slice = [];
    }
    if (slice.length > 0 && this.goesOn()) yield slice;
  }

  private async *validation(batches: Batches, epoch: number): AsyncGenerator<FitEvent> {
    const { loss, metrics, counts } = await evaluate(this.trainer, batches, this.options.signal);
    const { step } = this.trainer;
    this.trainer.log.noteValidation({ step, loss, metrics });
    yield { kind: "validation", epoch, step, loss, metrics, counts };
  }
}

/** So many batches at a time; the last time perhaps fewer. */
async function* grouped(batches: AsyncIterable<Batch>, size: number): AsyncGenerator<Batch[]> {
  let group: Batch[] = [];
  for await (const batch of batches) {
    group.push(batch);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

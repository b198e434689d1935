/**
 * The steps of one epoch, in slices.
 *
 * Two slices are under way at any time, so that the device always has work while the page gathers
 * the next batches and reads the last losses.  No new slice starts before the loop has taken the
 * event of an old one: a page that stops listening stops training.  The batches of a slice are kept
 * until it has landed, so that a run that went wrong takes them again.
 */

import type { Scalars } from "./engine.ts";
import { errorFromData, type ErrorData } from "./errors.ts";
import type { FitEvent, RecoveryEvent, StepReport, StepsEvent } from "./fit-events.ts";
import type { Recovered } from "./tools/recovery.ts";
import type { RecoveryPlan } from "./recovery-options.ts";
import { Pace, type ScheduledStep, type SliceResult } from "./slice.ts";
import type { Trainer } from "./trainer.ts";

interface Launched {
  slice: readonly ScheduledStep[];
  result: Promise<SliceResult>;
  rates: readonly number[];
}

interface Landed extends StepsEvent {
  spikes: readonly FitEvent[];
  failure: ErrorData | undefined;
  /** The steps of the slice that were not taken. */
  rest: readonly ScheduledStep[];
}

/** What the epochs of a run have in common. */
export class RunControl {
  readonly pace = new Pace();
  isStopped = false;
  /** Attempts at recovery so far. */
  attempts = 0;
  /** What the rates of the schedule are multiplied with. */
  scale: number;
  /** The step that failed last. */
  suspect: ScheduledStep | undefined;
  private gate: { opened: Promise<void>; open: () => void } | undefined;

  constructor(
    readonly trainer: Trainer, readonly run: number, readonly plan: RecoveryPlan | undefined,
    readonly signal: AbortSignal | undefined, scale = 1,
  ) {
    this.scale = scale;
  }

  get isPaused(): boolean {
    return this.gate !== undefined;
  }

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

  /** Waits while the run is paused; raises the reason of a signal that aborted it. */
  async passGate(): Promise<void> {
    await this.gate?.opened;
  }
}

/** Trains on slices of batches; gives the events, and in the end the mean loss. */
export class EpochRun {
  private readonly flight: Launched[] = [];
  private readonly pending: (readonly ScheduledStep[])[] = [];
  private readonly reports = new Map<number, StepReport>();

  constructor(
    private readonly control: RunControl, private readonly epoch: number,
    private readonly slices: AsyncGenerator<ScheduledStep[], undefined>,
  ) {}

  /** Steps of this epoch so far. */
  get steps(): number {
    return this.reports.size;
  }

  /** Loss and metrics: the means of the steps that have them. */
  get means(): Scalars {
    const reports = [...this.reports.values()];
    const mean = (values: readonly number[]): number =>
      values.reduce((sum, value) => sum + value, 0) / values.length;
    const names = new Set(reports.flatMap(({ metrics }) => Object.keys(metrics)));
    const metrics = [...names].map((name) =>
      [name, mean(reports.flatMap((report) => report.metrics[name] ?? []))] as const);
    return { loss: mean(reports.map(({ loss }) => loss)), metrics: Object.fromEntries(metrics) };
  }

  async *events(): AsyncGenerator<FitEvent> {
    const { control, flight, pending } = this;
    const first = control.trainer.step + 1;
    try {
      for (let more = true; more || flight.length + pending.length > 0;) {
        if (flight.length === 0) await control.passGate();
        control.signal?.throwIfAborted();
        if (control.isStopped) pending.length = 0;
        const slice = await this.next(more);
        if (slice) flight.push(this.launch(slice));
        else more &&= control.isPaused;
        if (flight.length === 0 || (slice && flight.length === 1)) continue;
        const { spikes, failure, rest, ...event } = await this.land();
        yield* this.told(event, first);
        yield* spikes;
        if (failure) yield* this.recover(failure, rest, first);
      }
    } finally {
      await Promise.allSettled(flight.map(({ result }) => result));
      await this.slices.return(undefined);
    }
  }

  private async next(more: boolean): Promise<readonly ScheduledStep[] | undefined> {
    if (this.control.isPaused) return undefined;
    const again = this.pending.shift();
    if (again ?? !more) return again;
    return (await this.slices.next()).value;
  }

  private launch(slice: readonly ScheduledStep[]): Launched {
    const { trainer, run, plan, scale } = this.control;
    const [current = NaN] = [trainer.learningRate].flat();
    const scaled = slice.map(({ batches, rates }) =>
      ({ batches, rates: rates?.map((rate) => rate * scale) }));
    const result = trainer.trainSlice({ run, steps: scaled, guard: plan?.guard });
    result.catch(() => undefined); // heard when it lands
    return { slice, result, rates: scaled.map(({ rates }) => rates?.[0] ?? current) };
  }

  /** What came of the oldest slice under way. */
  private async land(): Promise<Landed> {
    const { slice, result, rates } = this.flight.shift() as Launched;
    const landed = await result;
    const { steps, ms, failure } = landed;
    if (!failure) this.control.pace.note(landed);
    const { epoch } = this;
    const spikes = steps.flatMap(({ step, loss, spike }): FitEvent[] =>
      spike === undefined ? [] : [{ kind: "spike", epoch, step, loss, deviations: spike }]);
    const reports = reportsOf(landed, rates, ms / steps.length);
    const rest = slice.slice(steps.length);
    return { kind: "steps", epoch, steps: reports, spikes, failure, rest };
  }

  /** The events of steps from `first` on, which is where the epoch began, and of devices. */
  private *told(event: StepsEvent, first: number): Generator<FitEvent> {
    for (const { device, rescue } of this.control.trainer.takeRescues()) {
      yield { kind: "device", epoch: this.epoch, device, ...rescue };
    }
    for (const report of event.steps) {
      if (report.step >= first) this.reports.set(report.step, report);
    }
    if (event.steps.length > 0) yield event;
  }

  /** Takes a failed step back, or raises its error. */
  private async *recover(
    failure: ErrorData, rest: readonly ScheduledStep[], first: number,
  ): AsyncGenerator<FitEvent> {
    const { control, epoch } = this;
    const { trainer, plan } = control;
    const { step } = failure;
    if (!plan || failure.name !== "NumericalInstabilityError" || step === undefined) {
      throw errorFromData(failure);
    }
    const later = this.flight.splice(0);
    await Promise.all(later.map(({ result }) => result));
    const { factor } = plan;
    const { attempts: tried } = control;
    const attempts = plan.attempts - tried;
    const recovered = await trainer.recover({ step, failure, factor, attempts, tried });
    if (recovered.failure) throw errorFromData(recovered.failure);
    control.attempts += recovered.attempts;
    control.scale *= recovered.scale;
    trainer.log.record.rateScale = control.scale;
    const [bad, ...others] = rest;
    const isItself = (recovered.diagnosis?.step ?? step) === step;
    const isBad = isItself && bad === control.suspect;
    if (isItself) control.suspect = bad;
    const skipped = isBad || recovered.isLeftOut;
    if (skipped) trainer.log.skipStep();
    const again = [isBad ? others : rest, ...later.map(({ slice }) => slice)];
    this.pending.unshift(...again.filter(({ length }) => length > 0));
    yield recoveryEvent(epoch, failure, recovered, skipped);
    const steps = reportsOf(recovered, recovered.rates, NaN);
    yield* this.told({ kind: "steps", epoch, steps }, first);
  }
}

function reportsOf(
  { steps }: Pick<SliceResult, "steps">, rates: readonly number[], ms: number,
): StepReport[] {
  return steps.map(({ step, loss, metrics: { norm, ...metrics } }, i) => ({
    step, loss, learningRate: rates[i] ?? NaN, ms, metrics,
    ...(norm === undefined ? {} : { gradientNorm: norm }),
  }));
}

function recoveryEvent(
  epoch: number, failure: ErrorData, recovered: Recovered, skipped: boolean,
): RecoveryEvent {
  const { diagnosis, restored, learningRates: [learningRate = NaN] } = recovered;
  return {
    kind: "recovery", epoch, step: failure.step ?? NaN, reason: failure.what, restored,
    learningRate, skipped, ...(diagnosis ? { diagnosis } : {}),
  };
}

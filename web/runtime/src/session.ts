/**
 * The executor of now, and the calls on it, one after another.
 *
 * Three things put another executor in its place: a faster device (`contest.ts`), a batch without
 * room on the GPU, for which the state goes back to the CPU, and a device that fails.  Then a fresh
 * one of its kind, and after that the CPU, gets the newest picture of the state and makes the calls
 * since it again (`journal.ts`): who waits for a result does not notice.
 */

import type { Comparison, Contest } from "./contest.ts";
import type { Backend, DeviceInfo } from "./device.ts";
import {
  BackendError, DeviceLostError, OutOfMemoryError, reasonOf, type HearthError,
} from "./errors.ts";
import type { Executor, Result, Running, Wanted } from "./executor.ts";
import { checkBatch, type Argument } from "./inputs.ts";
import {
  endsStep, EVERY_STEPS, Journal, type Picture, type RecordedCall,
} from "./journal.ts";
import type { Manifest } from "./manifest.ts";
import { savedSpan, type Span } from "./state.ts";

/** A run goes on after its device has failed. */
export interface Rescue {
  /** What happened to the device. */
  readonly reason: string;
  /** Completed training steps when it happened. */
  readonly step: number;
  /** Training steps that were taken again. */
  readonly repeated: number;
}

export type EngineEvent =
  | { kind: "warning"; message: string }
  | { kind: "device"; device: DeviceInfo; comparison?: Comparison; rescue?: Rescue };

/** Opens a fresh device of a kind, for batches of a size. */
export type Reopen = (backend: Backend, batch: number) => Promise<Executor>;

/** A program to be started; `given` is asked when its turn comes. */
export interface Launch {
  program: string;
  /** Of the outputs that are read; all by default. */
  roles: Wanted | undefined;
  given: () => Argument[];
}

/** A program that has been started, after `step` completed training steps, itself included. */
export interface Launched {
  running: Running;
  step: number;
}

export class Session {
  readonly journal: Journal;
  private tail: Promise<unknown> = Promise.resolve();
  private readonly failures = new Map<Backend, number>();
  private end: HearthError | undefined;

  constructor(
    public executor: Executor,
    /** Completed training steps, those under way included. */
    public completed: number,
    private readonly contest: Contest | undefined,
    private readonly reopen: Reopen,
    private readonly notify: (event: EngineEvent) => void,
  ) {
    this.journal = new Journal(executor.manifest);
    this.keepPictures();
  }

  get manifest(): Manifest {
    return this.executor.manifest;
  }

  get device(): DeviceInfo {
    return this.executor.device.info;
  }

  /** Where the whole state lies. */
  get wholeState(): Span {
    return { offset: 0, bytes: this.manifest.state_bytes };
  }

  /** Does something when its turn comes. */
  inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work);
    this.tail = result.catch(() => undefined);
    return result;
  }

  /** The same, on another device if this one fails. */
  onDevice<T>(work: (executor: Executor) => Promise<T>): Promise<T> {
    return this.inOrder(() => this.withRescue(work));
  }

  /** Starts programs when their turn comes, and no other call between them. */
  launchAll(launches: readonly Launch[]): Promise<Launched[]> {
    return this.inOrder(async () => {
      const calls = launches.map(({ given, ...rest }) => ({ ...rest, given: given() }));
      const launched: Launched[] = [];
      for (const call of calls) launched.push(await this.launch(call));
      return launched;
    });
  }

  /** Makes a call in its turn and waits for its results; it then belongs to the journal. */
  async perform(call: RecordedCall): Promise<Result[]> {
    const results = await this.withRescue(async (executor) => {
      executor.learningRates = call.rates;
      const running = await executor.start(call.program, call.given, call.roles);
      return running.results;
    });
    this.journal.add(call);
    return results;
  }

  /** Goes back to a picture: what came after it is forgotten. */
  async restore(picture: Picture): Promise<void> {
    this.journal.rewind(picture);
    this.completed = picture.step;
    await this.withRescue((executor) => {
      executor.device.writeState(0, picture.image);
      return Promise.resolve();
    });
  }

  /** Keeps pictures where they can be needed: where a device can be lost, or a step taken back. */
  keepPictures(everySteps = EVERY_STEPS): void {
    const { isGuarded } = this.journal;
    const trains = this.manifest.optimizer !== undefined;
    const isNeeded = trains && (isGuarded || this.device.backend === "webgpu");
    this.journal.everySteps = isNeeded ? everySteps : undefined;
    if (!isNeeded) this.journal.reset();
  }

  dispose(): Promise<void> {
    return this.inOrder(() => {
      this.contest?.dispose();
      this.executor.device.dispose();
      return Promise.resolve();
    });
  }

  private async launch({ program, roles, given }: Omit<RecordedCall, "rates">): Promise<Launched> {
    await this.settle(program, given, roles);
    await this.takePicture();
    const { batchSize } = this.device;
    const begin = performance.now();
    const { learningRates: rates } = this.executor;
    const running = await this.start({ program, given, roles, rates });
    this.contest?.note(program, running.batch, performance.now() - begin);
    if (this.device.batchSize !== batchSize) this.notify({ kind: "device", device: this.device });
    if (endsStep(program)) this.completed++;
    return { running, step: this.completed };
  }

  private async withRescue<T>(work: (executor: Executor) => Promise<T>): Promise<T> {
    for (;;) {
      const { executor } = this;
      try {
        return await work(executor);
      } catch (error) {
        await this.rescue(error, executor);
      }
    }
  }

  private async takePicture(): Promise<void> {
    if (!this.journal.isDue(this.completed)) return;
    const { result } = await this.withRescue((executor) =>
      executor.device.copyState(savedSpan(this.manifest), this.journal.takeSpare()));
    this.journal.begin(this.completed, result);
  }

  private async start(call: RecordedCall): Promise<Running> {
    const { executor } = this;
    this.journal.add(call);
    try {
      const running = await executor.start(call.program, call.given, call.roles);
      return { batch: running.batch, results: this.outcome(call, executor, running.results) };
    } catch (error) {
      if (!(error instanceof BackendError)) this.journal.remove(call);
      if (error instanceof OutOfMemoryError && await this.goBack(call, error)) {
        return this.start(call);
      }
      await this.rescue(error, executor);
      return { batch: 0, results: againOf(call, executor, error) };
    }
  }

  /** The results of a call, from another device if this one fails before they come. */
  private async outcome(
    call: RecordedCall, executor: Executor, results: Promise<Result[]>,
  ): Promise<Result[]> {
    try {
      const values = await results;
      this.journal.settle(call);
      return values;
    } catch (error) {
      await this.inOrder(() => this.rescue(error, executor));
      return againOf(call, executor, error);
    }
  }

  /** Puts another device in the place of one that has failed; raises what is no such failure. */
  private async rescue(error: unknown, failed: Executor): Promise<void> {
    if (this.end) throw this.end;
    if (failed !== this.executor) return; // another call has noticed before
    const last = this.journal.newest();
    if (!(error instanceof BackendError) || !last) throw error;
    const { backend, batchSize } = failed.device.info;
    failed.device.dispose();
    const reasons = [reasonOf(error)];
    for (let next = this.successor(backend); next; next = this.successor(next)) {
      try {
        const executor = await this.reopen(next, batchSize);
        const { learningRates } = failed;
        const repeated = await this.replay(executor, last.picture, last.calls);
        executor.learningRates = learningRates;
        this.executor = executor;
        this.keepPictures(this.journal.everySteps);
        this.announce(reasons, repeated);
        return;
      } catch (again) {
        if (!isRefusal(again)) throw again;
        reasons.push(`${next}: ${reasonOf(again)}`);
      }
    }
    this.end = new DeviceLostError("no device is left to train on", {
      why: reasons.join("; "),
      remedy: "load the bundle again, from the last checkpoint if there is one",
    });
    throw this.end;
  }

  /** What takes over from a device that has failed: once a fresh one of its kind, then the CPU. */
  private successor(failed: Backend): Backend | undefined {
    const failures = (this.failures.get(failed) ?? 0) + 1;
    this.failures.set(failed, failures);
    if (failures === 1) return failed;
    return failed === "webgpu" ? "wasm" : undefined;
  }

  /** Makes the calls after a picture again; gives the training steps among them. */
  private async replay(
    executor: Executor, { image }: Picture, calls: readonly RecordedCall[],
  ): Promise<number> {
    try {
      executor.device.writeState(0, image);
      for (const call of calls) {
        executor.learningRates = call.rates;
        const { results } = await executor.start(call.program, call.given, call.roles);
        call.again = { executor, results: this.outcome(call, executor, results) };
        call.again.results.catch(() => undefined); // heard by who still waits for it
      }
    } catch (error) {
      executor.device.dispose();
      throw error;
    }
    return calls.filter(({ program }) => endsStep(program)).length;
  }

  private announce(reasons: readonly string[], repeated: number): void {
    const { backend, adapter } = this.device;
    const reason = reasons.join("; ");
    this.notify({
      kind: "warning",
      message: `${reason}: training goes on with ${backend} (${adapter}), ${String(repeated)} \
steps were taken again`,
    });
    const rescue = { reason, step: this.completed, repeated };
    this.notify({ kind: "device", device: this.device, rescue });
  }

  /** Moves the state to the GPU if that has become the faster device for this call. */
  private async settle(
    program: string, given: readonly Argument[], roles: Wanted | undefined,
  ): Promise<void> {
    const decided = await this.contest?.decide(program, given, roles);
    if (!decided) return;
    const { comparison, winner } = decided;
    if (winner) await this.moveTo(winner);
    this.notify({ kind: "device", device: this.device, comparison });
  }

  /** Whether the CPU has room for a batch that the GPU of `auto` has none for, and took over. */
  private async goBack({ given }: RecordedCall, error: OutOfMemoryError): Promise<boolean> {
    if (!this.contest || this.device.backend === "wasm") return false;
    const { batch } = checkBatch(given, false);
    const cpu = await this.reopen("wasm", batch).catch((refusal: unknown) => {
      if (isRefusal(refusal)) return undefined;
      throw refusal;
    });
    if (!cpu) return false;
    await this.moveTo(cpu);
    const message = `${reasonOf(error)}: training goes on with ${this.device.backend}`;
    this.notify({ kind: "warning", message });
    this.notify({ kind: "device", device: this.device });
    return true;
  }

  /** Goes on elsewhere; results that are under way come before the state that is read last. */
  private async moveTo(next: Executor): Promise<void> {
    const { executor: last } = this;
    next.device.writeState(0, await last.device.readState(this.wholeState));
    next.learningRates = last.learningRates;
    this.executor = next;
    this.keepPictures(this.journal.everySteps);
    last.device.dispose();
  }
}

/** Whether a device does not open, by what it raised. */
function isRefusal(error: unknown): boolean {
  return error instanceof BackendError || error instanceof OutOfMemoryError;
}

/** What a call gave on the device that took over from `failed`; raises `error` if none did. */
async function againOf(
  { again }: RecordedCall, failed: Executor, error: unknown,
): Promise<Result[]> {
  if (!again || again.executor === failed) throw error;
  return again.results;
}

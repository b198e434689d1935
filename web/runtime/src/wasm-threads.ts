/**
 * A team of helper workers that run the same program function on one shared memory.
 *
 * The caller is thread 0.  Between steps the helpers sleep in Atomics.wait on a step counter, in
 * a small memory of its own; inside a step the compiled code has its own barriers.  The split of
 * the work is the code's: every thread gets its index and the number of threads.
 */

import { BackendError, reasonOf } from "./errors.ts";
import { spawnWorker, workerScope } from "./spawn.ts";

export type ProgramFunction = (batch: number, thread: number, threads: number) => void;

export const THREAD_NAME = "hearth-thread";

/** Words of the control memory. */
const STEP = 0;
const PROGRAM = 1;
const BATCH = 2;
const RUNNING = 3;
const BUSY = 4;
const FAULT = 5;
const WORDS = 6;

/** Words of the bundle's memory: its own barrier (spec/manifest.md, "WebAssembly"). */
const ARRIVALS = 1088 / 4;
const GENERATION = 1152 / 4;

interface HelperStart {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  control: Int32Array;
  programs: readonly string[];
  thread: number;
  threads: number;
}

export class ThreadTeam {
  private broken = false;

  private constructor(
    private readonly workers: readonly Worker[],
    private readonly control: Int32Array,
    private readonly programs: readonly string[],
  ) {}

  /** Starts `threads - 1` helpers; BackendError if one of them does not start. */
  static async start(
    module: WebAssembly.Module, memory: WebAssembly.Memory, programs: readonly string[],
    threads: number,
  ): Promise<ThreadTeam> {
    const control = new Int32Array(new SharedArrayBuffer(4 * WORDS));
    const workers: Worker[] = [];
    try {
      for (let thread = 1; thread < threads; thread++) workers.push(spawnWorker(THREAD_NAME));
      await Promise.all(workers.map((worker, i) =>
        startHelper(worker, { module, memory, control, programs, thread: i + 1, threads })));
    } catch (error) {
      workers.forEach((worker) => { worker.terminate(); });
      throw new BackendError("a helper thread does not start", { why: reasonOf(error) });
    }
    return new ThreadTeam(workers, control, programs);
  }

  /** Runs a program on all threads; returns when all have finished. */
  run(program: string, own: ProgramFunction, batch: number): void {
    const { control, workers } = this;
    if (this.broken) throw new BackendError("a step before this one broke off");
    this.broken = true; // until it is over: a trap leaves the helpers at a barrier
    control[PROGRAM] = this.programs.indexOf(program);
    control[BATCH] = batch;
    Atomics.store(control, RUNNING, 1);
    Atomics.store(control, BUSY, workers.length);
    Atomics.add(control, STEP, 1);
    Atomics.notify(control, STEP);
    own(batch, 0, workers.length + 1);
    Atomics.store(control, RUNNING, 0);
    for (let busy = workers.length; busy > 0; busy = Atomics.load(control, BUSY)) {
      Atomics.wait(control, BUSY, busy);
    }
    if (Atomics.load(control, FAULT) !== 0) throw new BackendError("a helper thread broke off");
    this.broken = false;
  }

  dispose(): void {
    this.workers.forEach((worker) => { worker.terminate(); });
  }
}

function startHelper(worker: Worker, start: HelperStart): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<string>) => {
      if (data === "ready") resolve();
      else reject(new BackendError(data));
    };
    worker.onerror = (event) => { reject(new BackendError(event.message || "no script")); };
    worker.postMessage(start);
  });
}

/** What a helper worker does from its first message until it is terminated. */
export function serveAsHelper(): void {
  const scope = workerScope();
  scope.onmessage = ({ data }: MessageEvent<HelperStart>) => {
    try {
      const instance = new WebAssembly.Instance(data.module, { env: { memory: data.memory } });
      scope.postMessage("ready");
      loop(data, data.programs.map((name) => instance.exports[name] as ProgramFunction));
    } catch (error) {
      scope.postMessage(reasonOf(error));
    }
  };
}

function loop(start: HelperStart, functions: readonly ProgramFunction[]): never {
  const { control, memory, thread, threads } = start;
  for (let step = 0; ;) {
    Atomics.wait(control, STEP, step);
    const current = Atomics.load(control, STEP);
    if (current === step) continue;
    step = current;
    try {
      functions[control[PROGRAM] ?? 0]?.(control[BATCH] ?? 0, thread, threads);
    } catch {
      Atomics.store(control, FAULT, 1);
      standIn(new Int32Array(memory.buffer), control, threads);
    }
    if (Atomics.sub(control, BUSY, 1) === 1) Atomics.notify(control, BUSY);
  }
}

/** Arrives at every barrier in place of a call that broke off, so that the others can end. */
function standIn(words: Int32Array, control: Int32Array, threads: number): void {
  const running = (): boolean => Atomics.load(control, RUNNING) !== 0;
  while (running()) {
    const generation = Atomics.load(words, GENERATION);
    if (Atomics.add(words, ARRIVALS, 1) + 1 === threads) {
      Atomics.store(words, ARRIVALS, 0);
      Atomics.store(words, GENERATION, generation + 1);
      Atomics.notify(words, GENERATION);
    }
    while (running() && Atomics.load(words, GENERATION) === generation) {
      Atomics.wait(words, GENERATION, generation, 1);
    }
  }
}

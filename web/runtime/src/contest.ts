/**
 * `backend: "auto"`: work starts on the CPU at once, and moves to the GPU if that is faster.
 *
 * The GPU compiles and proves itself in the background.  Then the call that the user makes decides,
 * on the user's batch: the CPU's calls of that kind have been timed, and the GPU repeats one on a
 * state of its own.  Nothing is guessed from names, and it is decided once.
 */

import { InvalidInputError, reasonOf } from "./errors.ts";
import type { Executor, Running, Wanted } from "./executor.ts";
import type { Argument } from "./inputs.ts";

const CALLS = 4; // timed calls of one kind before it is decided: the first ones warm up
const WARM_UP = 2;
const IN_FLIGHT = 3; // as a training loop has them
const HOPELESS = 8; // a GPU that needs this many times as long is asked once only

/** Milliseconds that one call took on both. */
export interface Comparison {
  readonly program: string;
  readonly batch: number;
  readonly cpuMs: number;
  /** Infinity where the GPU failed or was given up. */
  readonly gpuMs: number;
}

/** The CPU's calls of one program since the batch size last changed. */
interface Timing {
  readonly batch: number;
  readonly calls: number;
  readonly cpuMs: number;
}

export class Contest {
  private gpu: Executor | undefined;
  private isOver = false;
  private readonly timings = new Map<string, Timing>();

  /** `opening` gives the GPU's executor when it is ready. */
  constructor(opening: Promise<Executor>, private readonly warn: (message: string) => void) {
    opening.then((gpu) => {
      if (this.isOver) gpu.device.dispose();
      else this.gpu = gpu;
    }, (error: unknown) => {
      if (!this.isOver) this.refuse(error);
      this.isOver = true;
    });
  }

  /** Notes how long the CPU took for a call. */
  note(program: string, batch: number, ms: number): void {
    const known = this.timings.get(program);
    const timing = known?.batch === batch ? known : { batch, calls: 0, cpuMs: Infinity };
    const cpuMs = Math.min(timing.cpuMs, ms);
    this.timings.set(program, { batch, calls: timing.calls + 1, cpuMs });
  }

  /**
   * Decides, if it is time: what both took, and the GPU's executor if that was less and all
   * batches so far fit there, whatever program they were for.
   */
  async decide(
    program: string, given: readonly Argument[], roles: Wanted | undefined,
  ): Promise<{ comparison: Comparison; winner: Executor | undefined } | undefined> {
    const { gpu } = this;
    const timing = this.timings.get(program);
    if (this.isOver || !gpu || !timing || timing.calls < CALLS) return undefined;
    const { batch, cpuMs } = timing;
    const largest = Math.max(...[...this.timings.values()].map((noted) => noted.batch));
    const start = (): Promise<Running> => gpu.start(program, given, roles);
    const measuring = gpu.makeRoom(largest).then(() => timeCalls(start, batch, HOPELESS * cpuMs));
    const gpuMs = await measuring.catch((error: unknown) => {
      if (error instanceof InvalidInputError) return undefined; // a bad batch is no fault of it
      this.refuse(error);
      return Infinity;
    });
    if (gpuMs === undefined) return undefined;
    this.isOver = true;
    const winner = gpuMs < cpuMs ? gpu : undefined;
    if (!winner) gpu.device.dispose();
    return { comparison: { program, batch, cpuMs, gpuMs }, winner };
  }

  private refuse(error: unknown): void {
    this.warn(`WebGPU is not used: ${reasonOf(error)}`);
  }

  dispose(): void {
    if (!this.isOver) this.gpu?.device.dispose();
    this.isOver = true;
  }
}

/** Milliseconds per call; undefined where the calls are of another batch size. */
async function timeCalls(
  start: () => Promise<Running>, batch: number, hopelessMs: number,
): Promise<number | undefined> {
  for (let i = 0; i < WARM_UP; i++) {
    const begin = performance.now();
    const running = await start();
    await running.results;
    if (running.batch !== batch) return undefined;
    if (i > 0 && performance.now() - begin > hopelessMs) return Infinity;
  }
  const begin = performance.now();
  const underWay: Promise<unknown>[] = [];
  for (let i = 0; i < IN_FLIGHT; i++) {
    const { results } = await start();
    results.catch(() => undefined); // heard below, unless the next call cannot even start
    underWay.push(results);
  }
  await Promise.all(underWay);
  return (performance.now() - begin) / IN_FLIGHT;
}

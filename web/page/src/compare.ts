/** Trains the same first steps on the CPU and on the GPU, in turns, each with weights of its own. */

import type { Batch, Dataset, Trainer } from "../../runtime/src/index.ts";
import type { Hearth } from "./hearth.ts";
import { threadsText } from "./numbers.ts";
import { MEMORY_BYTES } from "./trainer-options.ts";

/** One backend so far; `problem` says why it takes no part. */
export interface Measured {
  backend: "wasm" | "webgpu";
  /** The GPU, or the threads of the CPU. */
  adapter: string;
  steps: number;
  /** The median. */
  stepMs?: number;
  loss?: number;
  problem?: string;
}

const SECONDS = 8;
const ROUND_STEPS = 4;

/** Reports after every round; ends when both have had their time, or at the signal. */
export async function compareBackends(
  hearth: Hearth, base: URL, dataset: Dataset, { batchSize, seed }: { batchSize: number; seed: number },
  signal: AbortSignal, report: (measured: readonly Measured[]) => void,
): Promise<void> {
  const loader = new hearth.DataLoader(dataset, { batchSize, shuffle: true, seed });
  const racers: Racer[] = [];
  try {
    for (const backend of ["wasm", "webgpu"] as const) {
      racers.push(await Racer.enter(hearth, base, backend, loader));
      report(racers.map(({ measured }) => measured));
    }
    const end = performance.now() + 1000 * SECONDS;
    while (performance.now() < end && !signal.aborted) {
      for (const racer of racers) {
        await racer.round();
        report(racers.map(({ measured }) => measured));
      }
    }
  } finally {
    await Promise.all(racers.map((racer) => racer.leave()));
  }
}

class Racer {
  private readonly times: number[] = [];
  private epoch = 0;
  private batches: AsyncIterator<Batch>;

  private constructor(
    public measured: Measured, private readonly trainer: Trainer | undefined,
    private readonly loader: InstanceType<Hearth["DataLoader"]>,
  ) {
    this.batches = loader.epoch(0)[Symbol.asyncIterator]();
  }

  static async enter(
    hearth: Hearth, base: URL, backend: Measured["backend"],
    loader: InstanceType<Hearth["DataLoader"]>,
  ): Promise<Racer> {
    const trainer = await hearth.Trainer.load(base, {
      backend, seed: 0, memoryBytes: MEMORY_BYTES,
    });
    const { device, warnings } = trainer;
    const adapter = backend === "webgpu" ? device.adapter : threadsText(device.threads);
    const measured: Measured = { backend, adapter, steps: 0 };
    if (device.backend === backend) return new Racer(measured, trainer, loader);
    await trainer.dispose();
    const problem = warnings[0]?.split("\n")[0] ?? "this browser has none";
    return new Racer({ ...measured, adapter: "", problem }, undefined, loader);
  }

  /** A few steps, each waited for. */
  async round(): Promise<void> {
    if (!this.trainer) return;
    let loss = NaN;
    for (let i = 0; i < ROUND_STEPS; i++) {
      const { x, y } = await this.next();
      const begin = performance.now();
      ({ loss } = await this.trainer.trainBatch(x, y));
      this.times.push(performance.now() - begin);
    }
    const sorted = this.times.slice(ROUND_STEPS / 2).sort((a, b) => a - b);
    const stepMs = sorted[Math.floor(sorted.length / 2)];
    this.measured = {
      ...this.measured, steps: this.times.length, loss, ...(stepMs === undefined ? {} : { stepMs }),
    };
  }

  async leave(): Promise<void> {
    await this.trainer?.dispose();
  }

  private async next(): Promise<Batch> {
    const { value, done } = await this.batches.next();
    if (!done) return value;
    this.batches = this.loader.epoch(++this.epoch)[Symbol.asyncIterator]();
    return this.next();
  }
}

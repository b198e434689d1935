/**
 * Batches out of a data set: in order or shuffled, the same for the same seed and epoch.
 *
 * A data set only knows its length and how to gather samples by index, so that it may hold typed
 * arrays, file handles or a function.  The order of an epoch is computed, not stored: a run
 * can continue in the middle of any epoch.
 */

import type { Backend } from "./device.ts";
import { InvalidInputError } from "./errors.ts";
import { asList, requireWhole, type InputArray, type Inputs } from "./inputs.ts";
import { permutation, weightedDraws } from "./permutation.ts";
import type { Batch } from "./slice.ts";

/** Samples by index. */
export interface Dataset {
  readonly length: number;
  /** The samples at these indices, one after another, as one batch; `signal`: nobody waits more. */
  batch(indices: Uint32Array, signal?: AbortSignal): Batch | Promise<Batch>;
}

/** What `fit` takes its batches from. */
export interface Loader {
  /** Batches of one epoch. */
  readonly length: number;
  /** The batches of an epoch (the first is 0), leaving out the first `skip` of them. */
  epoch(epoch: number, skip?: number): AsyncIterable<Batch>;
}

/** Anything that gives the batches of an epoch, again for every epoch. */
export type Batches = Loader | Iterable<Batch> | AsyncIterable<Batch>;

/** The batches of an epoch (the first is 0), leaving out the first `skip` of them. */
export async function* batchesOf(
  batches: Batches, epoch: number, skip = 0,
): AsyncGenerator<Batch> {
  if ("epoch" in batches) {
    yield* batches.epoch(epoch, skip);
    return;
  }
  let left = skip;
  for await (const batch of batches) if (left-- <= 0) yield batch;
}

/** InvalidInputError for what gives no batches. */
export function requireBatches(batches: unknown, name: string): void {
  const given = Object(batches) as Partial<Record<PropertyKey, unknown>>;
  const ways = [given["epoch"], given[Symbol.iterator], given[Symbol.asyncIterator]];
  if (typeof batches === "object" && ways.some((way) => typeof way === "function")) return;
  throw new InvalidInputError(`${name}: ${String(batches)} gives no batches`, {
    remedy: "give a DataLoader, or an iterable of { x, y }",
  });
}

/** Whether these are the batches of one epoch only: an iterator cannot begin again. */
export function isReadOnce(batches: Batches): boolean {
  return "next" in batches;
}

export interface DataLoaderOptions {
  /**
   * 32 by default; "auto" leaves it to `fit`, which takes the size that trains most samples in a
   * second within the memory budget (`trainer.bestBatchSize`).
   */
  batchSize?: number | "auto";
  /** A new random order in every epoch. */
  shuffle?: boolean;
  /** Of the order; equal seeds give equal batches. */
  seed?: number;
  /** Leaves out the last batch of an epoch where it is smaller than the others. */
  dropLast?: boolean;
  /**
   * How often each sample is drawn, in relation to the others, such as `balancedWeights(labels)`:
   * an epoch then draws its samples at random, each as often as it comes.
   */
  weights?: ArrayLike<number>;
  /** How many samples an epoch draws by `weights`; as many as the data set has by default. */
  samplesPerEpoch?: number;
  /** How many batches are prepared while one trains, 1 by default. */
  prefetch?: number;
  /** Ends every epoch: its loop throws the signal's reason. */
  signal?: AbortSignal;
  /** Hears of every batch when it is ready. */
  onProgress?: (progress: LoaderProgress) => void;
}

export interface LoaderProgress {
  epoch: number;
  /** Batches of the epoch that are ready, this one included. */
  batch: number;
  /** Of the whole epoch. */
  batches: number;
  /** How long the loop waited for it, in milliseconds: nearly 0 where the data keep up. */
  waitedMs: number;
}

/** Batches of a data set, epoch by epoch; the next ones are gathered while the last one trains. */
export class DataLoader implements Loader {
  /** Whether the batch size was left to `fit`. */
  readonly isAuto: boolean;
  readonly shuffle: boolean;
  readonly seed: number;
  readonly dropLast: boolean;
  readonly prefetch: number;
  private size: number | undefined;
  private backend: Backend | undefined;
  private readonly options: Pick<
    DataLoaderOptions, "weights" | "samplesPerEpoch" | "signal" | "onProgress">;

  constructor(readonly dataset: Dataset, options: DataLoaderOptions = {}) {
    const {
      batchSize = 32, shuffle = false, seed = 0, dropLast = false, prefetch = 1,
      weights, samplesPerEpoch,
    } = options;
    this.options = options;
    requireWhole(dataset.length, "the length of the data set", 1);
    this.isAuto = batchSize === "auto";
    if (batchSize !== "auto") requireWhole(batchSize, "batchSize", 1);
    requireWhole(seed, "seed", 0);
    requireWhole(prefetch, "prefetch", 0);
    if (samplesPerEpoch !== undefined) requireWhole(samplesPerEpoch, "samplesPerEpoch", 1);
    if (samplesPerEpoch !== undefined && !weights) {
      throw new InvalidInputError("samplesPerEpoch is given without weights", {
        why: "an epoch without weights has every sample once",
      });
    }
    if (batchSize !== "auto") this.size = batchSize;
    this.shuffle = shuffle;
    this.seed = seed;
    this.dropLast = dropLast;
    this.prefetch = prefetch;
    if (weights) this.order(0); // refuses bad ones
    if (this.isAuto || this.length > 0) return;
    throw new InvalidInputError(`dropLast leaves no batch: an epoch has \
${String(this.samples)} samples, a batch ${String(batchSize)}`);
  }

  /** Samples of a batch; InvalidInputError where `fit` has still to choose it. */
  get batchSize(): number {
    if (this.size !== undefined) return this.size;
    throw new InvalidInputError(`batchSize is "auto" and not chosen yet`, {
      why: "it depends on the device and the model that train",
      remedy: "fit(loader) chooses it before its first step; elsewhere give a number",
    });
  }

  /** Whether the batch size is known. */
  get isChosen(): boolean {
    return this.size !== undefined;
  }

  /** For `fit`: the device that the batch size was found on; undefined where none was tried. */
  get chosenFor(): Backend | undefined {
    return this.backend;
  }

  /** For `fit`: the batch size from now on, and the device that it was found on. */
  choose(batchSize: number, backend?: Backend): void {
    this.size = batchSize;
    this.backend = backend;
  }

  /** The first samples of the first epoch, at most so many. */
  sample(most: number): Batch | Promise<Batch> {
    return this.dataset.batch(this.order(0).subarray(0, most), this.options.signal);
  }

  get length(): number {
    return this.batchesOf(this.samples);
  }

  /** The indices of an epoch's samples, in their order. */
  order(epoch: number): Uint32Array {
    const { length } = this.dataset;
    const { weights } = this.options;
    if (weights && weights.length !== length) {
      throw new InvalidInputError(
        `${String(weights.length)} weights are given for ${String(length)} samples`);
    }
    if (weights) return weightedDraws(weights, this.samples, this.seed, epoch);
    return this.shuffle ? permutation(length, this.seed, epoch) : Uint32Array.from(
      { length }, (_, i) => i);
  }

  async *epoch(epoch: number, skip = 0): AsyncGenerator<Batch> {
    const order = this.order(epoch);
    const batches = this.batchesOf(order.length);
    const { signal, onProgress } = this.options;
    const left = new AbortController(); // the loop has ended: what is prepared is of no use
    const end = (): void => { left.abort(signal?.reason); };
    signal?.addEventListener("abort", end, { signal: left.signal });
    const gather = async (i: number): Promise<Batch> => {
      const indices = order.subarray(i * this.batchSize, (i + 1) * this.batchSize);
      const batch = await this.dataset.batch(indices, left.signal);
      return { ...batch, samples: indices.length };
    };
    const ahead: Promise<Batch>[] = [];
    let begun = skip;
    const begin = (until: number): void => {
      for (; begun < Math.min(batches, until); begun++) {
        const batch = gather(begun);
        batch.catch(() => undefined); // heard when its turn comes
        ahead.push(batch);
      }
    };
    try {
      for (let i = skip; i < batches; i++) {
        signal?.throwIfAborted();
        const asked = performance.now();
        begin(i + 1);
        const batch = await (ahead.shift() as Promise<Batch>);
        signal?.throwIfAborted();
        onProgress?.({ epoch, batch: i + 1, batches, waitedMs: performance.now() - asked });
        begin(i + 1 + this.prefetch);
        yield batch;
      }
    } finally {
      left.abort();
    }
  }

  /** Samples of an epoch. */
  get samples(): number {
    return this.options.samplesPerEpoch ?? this.dataset.length;
  }

  private batchesOf(samples: number): number {
    const batches = samples / this.batchSize;
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }
}

/** Samples in memory: flat arrays, one sample after another. */
export class ArrayDataset implements Dataset {
  readonly length: number;
  private readonly x: readonly InputArray[];
  private readonly y: readonly InputArray[];

  /** A model with several inputs takes a list of arrays; `samples` is how many samples all hold. */
  constructor({ x, y, samples }: { x: Inputs; y?: Inputs; samples: number }) {
    requireWhole(samples, "samples", 1);
    this.length = samples;
    this.x = asList(x, "x");
    this.y = y === undefined ? [] : asList(y, "y");
    for (const [label, arrays] of [["x", this.x], ["y", this.y]] as const) {
      arrays.forEach((array, i) => {
        if (array.length % samples === 0 && array.length > 0) return;
        const name = arrays.length > 1 ? `${label}[${String(i)}]` : label;
        throw new InvalidInputError(`${name} has ${String(array.length)} values, which is no \
multiple of the ${String(samples)} samples`);
      });
    }
  }

  batch(indices: Uint32Array): Batch {
    const [x, y] = [this.x, this.y].map((arrays) => {
      const parts = arrays.map((array) => gather(array, array.length / this.length, indices));
      const [only] = parts;
      return parts.length === 1 && only ? only : parts;
    });
    return this.y.length > 0 ? { x: x ?? [], y } : { x: x ?? [] };
  }
}

/** Some samples of a data set, such as one side of a split. */
export class Subset implements Dataset {
  constructor(readonly dataset: Dataset, readonly indices: Uint32Array) {
    const bad = indices.find((index) => index >= dataset.length);
    if (bad === undefined) return;
    throw new InvalidInputError(
      `the subset names sample ${String(bad)} of ${String(dataset.length)}`);
  }

  get length(): number {
    return this.indices.length;
  }

  batch(indices: Uint32Array, signal?: AbortSignal): Batch | Promise<Batch> {
    return this.dataset.batch(indices.map((index) => this.indices[index] ?? 0), signal);
  }
}

function gather(array: InputArray, size: number, indices: Uint32Array): InputArray {
  if (!ArrayBuffer.isView(array)) {
    const rows = Array.from(indices, (index) => array.slice(index * size, (index + 1) * size));
    return rows.flat() as number[] | boolean[];
  }
  const Values = array.constructor as new (length: number) => Float32Array; // or whichever it is
  const made = new Values(size * indices.length);
  indices.forEach((index, i) => {
    made.set((array as Float32Array).subarray(index * size, (index + 1) * size), i * size);
  });
  return made;
}

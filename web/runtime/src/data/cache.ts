/** Samples that were used last stay in memory, up to a number of bytes. */

import { asList, requireWhole, type Batch, type Dataset } from "../index.ts";
import { collate, samplesOf } from "./samples.ts";

/** Values by number, the least recently used ones dropped when `limitBytes` would be passed. */
export class LruCache<T> {
  private readonly entries = new Map<number, { value: T; bytes: number }>(); // oldest first
  private used = 0;

  constructor(readonly limitBytes: number, private readonly bytesOf: (value: T) => number) {
    requireWhole(limitBytes, "the bytes of the cache", 0);
  }

  get bytes(): number {
    return this.used;
  }

  get(key: number): T | undefined {
    const entry = this.entries.get(key);
    if (!entry) return undefined;
    this.entries.delete(key);
    this.entries.set(key, entry);
    return entry.value;
  }

  set(key: number, value: T): void {
    this.drop(key);
    const bytes = this.bytesOf(value);
    if (bytes > this.limitBytes) return;
    this.entries.set(key, { value, bytes });
    this.used += bytes;
    for (const oldest of this.entries.keys()) {
      if (this.used <= this.limitBytes) return;
      this.drop(oldest);
    }
  }

  private drop(key: number): void {
    this.used -= this.entries.get(key)?.bytes ?? 0;
    this.entries.delete(key);
  }
}

/** The same data set; of the samples used last up to `bytes` are not made again. */
export class CachedDataset implements Dataset {
  private readonly cache: LruCache<Batch>;

  constructor(readonly dataset: Dataset, { bytes }: { bytes: number }) {
    this.cache = new LruCache(bytes, sampleBytes);
  }

  get length(): number {
    return this.dataset.length;
  }

  /** What the cache holds. */
  get bytes(): number {
    return this.cache.bytes;
  }

  async batch(indices: Uint32Array, signal?: AbortSignal): Promise<Batch> {
    const samples = Array.from(indices, (index) => this.cache.get(index));
    const absent = indices.filter((_, i) => samples[i] === undefined);
    if (absent.length === 0) return collate(samples.flatMap((sample) => sample ?? []));
    const made = samplesOf(await this.dataset.batch(absent, signal), absent.length);
    made.forEach((sample, i) => { this.cache.set(absent[i] ?? 0, sample); });
    let next = 0;
    return collate(samples.flatMap((sample) => sample ?? made[next++] ?? []));
  }
}

function sampleBytes({ x, y }: Batch): number {
  return [...asList(x, "x"), ...(y === undefined ? [] : asList(y, "y"))].reduce(
    (sum, array) => sum + (ArrayBuffer.isView(array) ? array.byteLength : 8 * array.length), 0);
}

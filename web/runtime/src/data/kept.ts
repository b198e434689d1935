/**
 * Data sets that stay in this browser and are read by the batch.
 *
 * Samples lie in files of a few megabytes; the index, written last and replaced at once, says
 * which of them belong to the data set.  Until then nothing is there, and afterwards all of it.
 */

import {
  encodeName, InvalidInputError, openIn, openStore, reasonOf, StorageError, type Batch,
  type Dataset, type Store,
} from "../index.ts";
import { crc32 } from "./crc32.ts";
import {
  decodeIndex, INDEX_SUFFIX, indexFile, samplesFile, whereSamples, type DatasetIndex,
} from "./kept-index.ts";
import { arraysOf, recordBytes, recordsInto } from "./records.ts";
import { PixelDataset } from "./pixels.ts";

export interface StoreOptions {
  /** Where files are kept; by default the best storage of this browser. */
  store?: Store;
}

/** A data set as it is listed. */
export interface KeptInfo {
  readonly name: string;
  readonly samples: number;
  readonly bytes: number;
}

/** A kept data set; its samples are read when their batch comes, and their checksums compared. */
export class KeptDataset implements Dataset {
  /** What was given with it, such as `classes`. */
  readonly about: Readonly<Record<string, unknown>>;
  /** Of every sample, where the targets are one whole number each: for `split`. */
  readonly labels: Int32Array | undefined;
  private readonly samples: Dataset;

  constructor(readonly name: string, private readonly index: DatasetIndex, store: Store) {
    const samples = new StoredSamples(name, index, store);
    this.about = index.about;
    this.labels = index.labels;
    this.samples = index.normalisation ? new PixelDataset(samples, index.normalisation) : samples;
  }

  get length(): number {
    return this.index.crcs.length;
  }

  batch(indices: Uint32Array, signal?: AbortSignal): Batch | Promise<Batch> {
    return this.samples.batch(indices, signal);
  }
}

/** Opens a kept data set.  Raises StorageError where there is none, or its index is damaged. */
export async function openDataset(
  name: string, { store }: StoreOptions = {},
): Promise<KeptDataset> {
  const files = store ?? await openStore();
  const index = await readIndex(files, name);
  if (index) return new KeptDataset(name, index, files);
  const known = (await listDatasets({ store: files })).map((one) => one.name).join(", ");
  throw new StorageError(`there is no data set "${name}"`, {
    why: known ? `there are ${known}` : `nothing is kept in ${files.kind}`,
  });
}

/** All kept data sets by name; one whose index is damaged is left out. */
export async function listDatasets({ store }: StoreOptions = {}): Promise<KeptInfo[]> {
  const files = store ?? await openStore();
  const names = (await files.names()).filter((file) => file.endsWith(INDEX_SUFFIX))
    .map((file) => decodeURIComponent(file.slice(0, -INDEX_SUFFIX.length))).sort();
  const found = await Promise.all(names.map(async (name) => {
    const index = await readIndex(files, name).catch(() => undefined);
    const samples = index?.crcs.length ?? 0;
    return index ? [{ name, samples, bytes: samples * recordBytes(index.arrays) }] : [];
  }));
  return found.flat();
}

/** Removes a data set: at once for everyone who opens it, then its files. */
export async function removeDataset(name: string, { store }: StoreOptions = {}): Promise<void> {
  const files = store ?? await openStore();
  await exclusively(name, async () => {
    await files.remove(indexFile(name));
    await removeSamples(files, name, () => true);
  });
}

/** The index of a data set; undefined where there is none. */
export async function readIndex(store: Store, name: string): Promise<DatasetIndex | undefined> {
  const bytes = await store.read(indexFile(name));
  return bytes && decodeIndex(bytes, `the data set "${name}"`);
}

/** Removes the files with samples of a name, of some versions. */
export async function removeSamples(
  store: Store, name: string, which: (version: string) => boolean,
): Promise<void> {
  for (const file of await store.names()) {
    const where = whereSamples(file);
    if (where?.name === name && which(where.version)) await store.remove(file);
  }
}

/** One writer of a data set at a time, among all tabs; where the browser has locks. */
export async function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  encodeName(name, "a data set"); // refuses what is none
  const locks = locksOf();
  return locks ? await locks.request(lockName(name), work) : work();
}

/** Removes what writers that were killed have left behind. */
export async function sweep(store: Store): Promise<void> {
  const locks = locksOf();
  const names = (await store.names()).flatMap((file) => whereSamples(file)?.name ?? []);
  for (const name of locks ? new Set(names) : []) {
    await locks?.request(lockName(name), { ifAvailable: true }, async (lock) => {
      if (!lock) return; // it is being written now
      const index = await readIndex(store, name).catch(() => undefined);
      await removeSamples(store, name, (version) => version !== index?.version);
    });
  }
}

function lockName(name: string): string {
  return `hearth data set ${name}`;
}

function locksOf(): LockManager | undefined {
  return typeof navigator === "undefined" ? undefined
    : (navigator as Partial<Navigator>).locks; // an insecure page has none
}

/** The samples of a version as they lie in its files. */
class StoredSamples implements Dataset {
  private readonly files = new Map<number, Blob>();
  private readonly recordBytes: number;

  constructor(
    private readonly name: string, private readonly index: DatasetIndex,
    private readonly store: Store,
  ) {
    this.recordBytes = recordBytes(index.arrays);
  }

  get length(): number {
    return this.index.crcs.length;
  }

  async batch(indices: Uint32Array, signal?: AbortSignal): Promise<Batch> {
    const batch = arraysOf(this.index.arrays, indices.length);
    const bad = indices.find((index) => index >= this.length);
    if (bad !== undefined) {
      throw new InvalidInputError(`sample ${String(bad)} of ${String(this.length)} is asked for`);
    }
    await Promise.all(runs(indices, this.index.fileSamples).map(async ({ begin, count }) => {
      signal?.throwIfAborted();
      const first = indices[begin] ?? 0;
      const bytes = await this.read(first, count);
      for (let i = 0; i < count; i++) {
        const record = bytes.subarray(i * this.recordBytes, (i + 1) * this.recordBytes);
        if (crc32(record) !== this.index.crcs[first + i]) throw this.damaged(first + i);
        recordsInto(batch, this.index.arrays, begin + i, record);
      }
    }));
    return batch.made();
  }

  private async read(first: number, count: number): Promise<Uint8Array> {
    const { fileSamples, version } = this.index;
    const number = Math.floor(first / fileSamples);
    const at = (first % fileSamples) * this.recordBytes;
    try {
      const file = this.files.get(number)
        ?? await openIn(this.store, samplesFile(this.name, version, number));
      if (!file) throw this.damaged(first);
      this.files.set(number, file);
      const bytes = await file.slice(at, at + count * this.recordBytes).arrayBuffer();
      if (bytes.byteLength === count * this.recordBytes) return new Uint8Array(bytes);
    } catch (error) {
      if (error instanceof StorageError) throw error;
      throw new StorageError(`the data set "${this.name}" cannot be read`, {
        why: reasonOf(error), remedy: "open it again: it may have been replaced or removed",
      });
    }
    throw this.damaged(first);
  }

  private damaged(sample: number): StorageError {
    return new StorageError(`sample ${String(sample)} of the data set "${this.name}" is damaged`, {
      why: "its file is missing or shorter, or the checksum differs",
      remedy: "the data set was replaced or removed meanwhile: open it again, or keep it anew",
    });
  }
}

/** Stretches of samples that lie one after another in a file; `begin` is a place in `indices`. */
function runs(indices: Uint32Array, fileSamples: number): { begin: number; count: number }[] {
  const found: { begin: number; count: number }[] = [];
  indices.forEach((index, i) => {
    const last = found.at(-1);
    const follows = index - 1 === indices[i - 1] && index % fileSamples > 0;
    if (last && follows) last.count++;
    else found.push({ begin: i, count: 1 });
  });
  return found;
}

/** Writes data sets that stay in this browser: any samples, in any order, as they come. */

import {
  DataLoader, InvalidInputError, openStore, Subset, type Batch, type Dataset, type Store,
} from "../index.ts";
import { crc32 } from "./crc32.ts";
import { encodeIndex, indexFile, samplesFile } from "./kept-index.ts";
import {
  exclusively, openDataset, removeSamples, sweep, type KeptDataset, type StoreOptions,
} from "./kept.ts";
import { PixelDataset, type Normalisation } from "./pixels.ts";
import { formOf, recordBytes, recordsOf, type SampleArray } from "./records.ts";

/** Batches that say how many samples they hold; those of a DataLoader do. */
export type Samples = Dataset | AsyncIterable<Batch> | Iterable<Batch>;

export interface KeepDataOptions extends StoreOptions {
  /** Kept with it, as JSON; the `classes` of a data set that has them are added. */
  about?: Readonly<Record<string, unknown>>;
  signal?: AbortSignal;
  /** Hears the number of samples that are written. */
  onProgress?: (samples: number) => void;
}

const FILE_BYTES = 4 << 20;
const BATCH = 64;

/**
 * Keeps samples under a name, in place of those that were kept under it before.
 *
 * Pictures stay bytes.  Until all are written the old ones are there, and they stay where writing
 * fails, is aborted, or the tab dies.  Raises StorageError where there is no room.
 */
export async function keepDataset(
  name: string, samples: Samples, options: KeepDataOptions = {},
): Promise<KeptDataset> {
  const { about = {}, signal, onProgress } = options;
  const store = options.store ?? await openStore();
  const { batches, normalisation, classes } = opened(samples, signal);
  await sweep(store);
  return exclusively(name, async () => {
    // What is left behind here goes with the next sweep.
    const remove = (which: (version: string) => boolean): Promise<void> =>
      removeSamples(store, name, which).catch(() => undefined);
    const writer = new Writer(store, name);
    try {
      for await (const batch of batches) {
        signal?.throwIfAborted();
        await writer.add(batch);
        onProgress?.(writer.samples);
      }
      const kept = classes ? { classes, ...about } : about;
      await writer.commit(normalisation, kept);
    } catch (error) {
      await remove((version) => version === writer.version);
      throw error;
    }
    await remove((version) => version !== writer.version);
    return openDataset(name, { store });
  });
}

interface Opened {
  batches: AsyncIterable<Batch> | Iterable<Batch>;
  normalisation?: Normalisation | undefined;
  classes?: readonly string[] | undefined;
}

function opened(samples: Samples, signal: AbortSignal | undefined): Opened {
  if (!("batch" in samples)) return { batches: samples };
  const { dataset, normalisation } = unscaled(samples);
  const loader = new DataLoader(dataset, { batchSize: BATCH, ...(signal && { signal }) });
  const { classes } = samples as { classes?: readonly string[] };
  return { batches: loader.epoch(0), normalisation, classes };
}

/** The bytes of pictures, also of a part of them. */
function unscaled(dataset: Dataset): { dataset: Dataset; normalisation?: Normalisation } {
  if (dataset instanceof PixelDataset) {
    return { dataset: dataset.pixels, normalisation: dataset.normalisation };
  }
  if (!(dataset instanceof Subset)) return { dataset };
  const { dataset: inner, ...rest } = unscaled(dataset.dataset);
  return { dataset: new Subset(inner, dataset.indices), ...rest };
}

class Writer {
  readonly version = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
  private arrays: readonly SampleArray[] | undefined;
  private file = new Uint8Array(0);
  private used = 0;
  private files = 0;
  private batches = 0;
  private fileSamples = 0;
  private readonly crcs: number[] = [];
  private readonly labels: number[] = [];

  constructor(private readonly store: Store, private readonly name: string) {}

  get samples(): number {
    return this.crcs.length;
  }

  async add(batch: Batch): Promise<void> {
    const { samples } = batch;
    if (samples === undefined || !(Number.isInteger(samples) && samples > 0)) {
      throw new InvalidInputError(`batch ${String(this.batches)} does not say how many samples it \
has`, { remedy: "give { x, y, samples }" });
    }
    const form = formOf(batch, samples);
    this.arrays ??= this.begin(form);
    if (JSON.stringify(form) !== JSON.stringify(this.arrays)) {
      throw new InvalidInputError(`batch ${String(this.batches)} has samples of \
${describe(form)}, those before have ${describe(this.arrays)}`);
    }
    this.batches++;
    if (hasLabels(this.arrays)) this.labels.push(...Array.from(batch.y as Int32Array));
    const size = recordBytes(this.arrays);
    const records = recordsOf(batch, this.arrays, samples);
    for (let at = 0; at < records.length; at += size) {
      await this.put(records.subarray(at, at + size));
    }
  }

  async commit(
    normalisation: Normalisation | undefined, about: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    if (!this.arrays) throw new InvalidInputError("there is no sample to keep");
    await this.flush();
    const { version, fileSamples, arrays } = this;
    await this.store.write(indexFile(this.name), encodeIndex({
      version, fileSamples, arrays, normalisation, about, crcs: Uint32Array.from(this.crcs),
      labels: hasLabels(arrays) ? Int32Array.from(this.labels) : undefined,
    }));
  }

  private begin(form: readonly SampleArray[]): readonly SampleArray[] {
    this.fileSamples = Math.max(1, Math.floor(FILE_BYTES / recordBytes(form)));
    this.file = new Uint8Array(this.fileSamples * recordBytes(form));
    return form;
  }

  private async put(record: Uint8Array): Promise<void> {
    this.file.set(record, this.used);
    this.used += record.length;
    this.crcs.push(crc32(record));
    if (this.used === this.file.length) await this.flush();
  }

  private async flush(): Promise<void> {
    if (this.used === 0) return;
    const name = samplesFile(this.name, this.version, this.files++);
    await this.store.write(name, this.file.subarray(0, this.used), true);
    this.used = 0;
  }
}

/** Whether the targets are one whole number of 32 bits each. */
function hasLabels(arrays: readonly SampleArray[]): boolean {
  const [target, ...more] = arrays.filter(({ role }) => role === "y");
  return target?.length === 1 && more.length === 0 && /^U?[Ii]nt(8|16|32)Array$/.test(target.type);
}

function describe(arrays: readonly SampleArray[]): string {
  return arrays.map(({ role, type, length }) => `${role}: ${type}(${String(length)})`).join(", ");
}

/**
 * Pictures from folders, one folder for each class, decoded when their batch comes.
 *
 * Only the handles of the files are held, and as many decoded pictures as the cache has room for:
 * ten thousand photographs need no more memory than a hundred.
 */

import {
  InvalidInputError, requireWhole, Subset, type Batch, type Dataset,
} from "../index.ts";
import { CachedDataset } from "./cache.ts";
import { decodeImage, imageSize, type ImageSize, type PixelOptions } from "./decode-image.ts";
import {
  listFiles, openFile, type FileSource, type ListOptions, type NamedFile,
} from "./files.ts";
import { normalisation, PixelDataset, type NormaliseOptions } from "./pixels.ts";

export interface ImageFolderOptions extends PixelOptions, NormaliseOptions, ListOptions {
  /** Takes only the files below this folder, such as "train". */
  under?: string;
  /** The names of the classes in the order of their labels; by default the folders, sorted. */
  classes?: readonly string[];
  /** `false`: pictures without targets, in any folder. */
  labelled?: boolean;
  /** What a file that is no picture does: "throw", or "skip" with a warning. */
  broken?: "throw" | "skip";
  /** Hears which files are skipped; by default the console does. */
  onWarning?: (message: string) => void;
  /** For decoded pictures, one byte a value; 64 MB by default. */
  cacheBytes?: number;
  /** How many files are decoded at once, 4 by default. */
  concurrency?: number;
}

const PICTURE = /\.(png|jpe?g|gif|webp|bmp|avif)$/i;

/**
 * The pictures of a source, their labels the number of their class folder.
 *
 * A folder around all class folders is passed over.  Raises InvalidInputError where there are no
 * pictures or no classes; a broken picture is one of its batch, naming the file.
 */
export async function imageFolder(
  source: FileSource, options: ImageFolderOptions,
): Promise<ImageFolder> {
  const size = imageSize(options);
  const all = await listFiles(source, options); // at once: a drop is empty after its event
  const prefix = options.under === undefined ? "" : `${options.under.replace(/\/+$/, "")}/`;
  const files = all.filter(({ path }) => path.startsWith(prefix) && PICTURE.test(path));
  if (files.length === 0) {
    throw new InvalidInputError(`there is no picture${prefix && ` below ${prefix}`}`, {
      why: `${String(all.length)} files were found, none of them .png, .jpg, .webp, .gif, .bmp \
or .avif`,
    });
  }
  const folders = options.labelled === false ? undefined : classFolders(files, prefix);
  const classes = options.classes ?? [...new Set(folders)].sort();
  const labels = Int32Array.from(folders ?? [], (folder, i) => {
    const label = classes.indexOf(folder);
    if (label >= 0) return label;
    throw new InvalidInputError(`${files[i]?.path ?? ""} is of no known class`, {
      why: `the classes are ${classes.join(", ")}`,
    });
  });
  return new ImageFolder(files, classes, folders && labels, size, options);
}

/** What `imageFolder` gives: `classes`, `labels` and `files` go with the samples. */
export class ImageFolder extends PixelDataset {
  constructor(
    readonly files: readonly NamedFile[], readonly classes: readonly string[],
    readonly labels: Int32Array | undefined, readonly size: ImageSize,
    private readonly options: ImageFolderOptions,
  ) {
    const images = new Images(files, labels, size, options);
    super(new CachedDataset(images, { bytes: options.cacheBytes ?? 64e6 }),
      normalisation(size.channels, options));
  }

  /** Those that can be decoded: reads every file once. */
  async readable({ signal, onProgress }: ListOptions = {}): Promise<Subset> {
    const images = new Images(this.files, undefined, this.size,
      { ...this.options, broken: "throw" });
    const good: number[] = [];
    for (let i = 0; i < this.length; i++) {
      signal?.throwIfAborted();
      try {
        await images.decode(i, new Uint8Array(images.bytes));
        good.push(i);
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error;
      }
      onProgress?.(i + 1);
    }
    return new Subset(this, Uint32Array.from(good));
  }
}

/** The decoded bytes, and nothing kept. */
class Images implements Dataset {
  readonly bytes: number;
  private readonly bad = new Set<number>();
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private readonly files: readonly NamedFile[], private readonly labels: Int32Array | undefined,
    private readonly size: ImageSize, private readonly options: ImageFolderOptions,
  ) {
    this.bytes = size.channels * size.height * size.width;
    this.free = options.concurrency ?? 4;
    requireWhole(this.free, "concurrency", 1);
  }

  get length(): number {
    return this.files.length;
  }

  async batch(indices: Uint32Array, signal?: AbortSignal): Promise<Batch> {
    const x = new Uint8Array(indices.length * this.bytes);
    await Promise.all(Array.from(indices, (index, i) =>
      this.place(index, x.subarray(i * this.bytes, (i + 1) * this.bytes), signal)));
    const { labels } = this;
    return labels ? { x, y: Int32Array.from(indices, (index) => labels[index] ?? 0) } : { x };
  }

  async decode(index: number, into: Uint8Array): Promise<void> {
    const file = this.files[index] as NamedFile;
    await decodeImage(await openFile(file), file.path, this.size, into);
  }

  /** A broken file gives its place to the next good one of its class: batches keep their sizes. */
  private async place(index: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const count = this.files.length;
    for (let i = 0; i < count; i++) {
      const next = (index + i) % count;
      if (this.labels?.[next] !== this.labels?.[index] || this.bad.has(next)) continue;
      try {
        await this.inTurn(() => this.decode(next, into), signal);
        return;
      } catch (error) {
        if (this.options.broken !== "skip" || !(error instanceof InvalidInputError)) throw error;
        if (!this.bad.has(next)) this.warn(error);
        this.bad.add(next);
      }
    }
    throw new InvalidInputError(`no picture can be decoded in place of \
${this.files[index]?.path ?? ""}`, { why: "all others of its class are broken, too" });
  }

  private warn(error: InvalidInputError): void {
    const { onWarning = (message: string) => { console.warn(message); } } = this.options;
    onWarning(`skipped: ${error.what}`);
  }

  private async inTurn(work: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    while (this.free === 0) await new Promise<void>((resolve) => { this.waiting.push(resolve); });
    this.free--;
    try {
      signal?.throwIfAborted();
      await work();
    } finally {
      this.free++;
      this.waiting.shift()?.();
    }
  }
}

/** The first folder of each path, after those that all share. */
function classFolders(files: readonly NamedFile[], prefix: string): string[] {
  let paths = files.map(({ path }) => path.slice(prefix.length).split("/"));
  while (paths.every((path) => path.length > 2 && path[0] === paths[0]?.[0])) {
    paths = paths.map((path) => path.slice(1));
  }
  const bare = paths.findIndex((path) => path.length < 2);
  if (bare < 0) return paths.map(([folder = ""]) => folder);
  throw new InvalidInputError(`${files[bare]?.path ?? ""} lies in no class folder`, {
    remedy: "put the pictures of each class into a folder with its name, or give labelled: false",
  });
}

/**
 * The files a person chose, whatever they came in: a folder, a list, a drop, a zip archive.
 *
 * Only names are read at first; a file is opened when its content is asked for.
 */

import { InvalidInputError, reasonOf, StorageError } from "../index.ts";
import { openZip } from "./zip.ts";

/** A file by its place below what was chosen, with "/" between folders. */
export interface NamedFile {
  readonly path: string;
  open(): Promise<Blob>;
}

/** What holds files; a Blob is a zip archive. */
export type FileSource =
  | FileSystemDirectoryHandle | FileList | readonly File[] | DataTransfer | Blob
  | readonly NamedFile[];

export interface ListOptions {
  signal?: AbortSignal;
  /** Hears the number of files found so far. */
  onProgress?: (files: number) => void;
}

/**
 * All files of a source in the order of their paths, hidden ones left out.
 *
 * A drop must be given before its event ends: it is empty afterwards.  Raises InvalidInputError
 * for what holds no files, StorageError where a folder cannot be read.
 */
export async function listFiles(
  source: FileSource, { signal, onProgress }: ListOptions = {},
): Promise<NamedFile[]> {
  const found: NamedFile[] = [];
  for await (const file of walk(source)) {
    signal?.throwIfAborted();
    if (file.path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX")) continue;
    found.push(file);
    onProgress?.(found.length);
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

/** The content of a file; StorageError names it where it cannot be read. */
export async function openFile(file: NamedFile): Promise<Blob> {
  try {
    return await file.open();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    throw new StorageError(`cannot read ${file.path}`, {
      why: reasonOf(error), remedy: "it was moved, or its permission ended: choose it again",
    });
  }
}

async function* walk(source: FileSource): AsyncGenerator<NamedFile> {
  if (isDirectory(source)) yield* walkDirectory(source, "");
  else if (source instanceof Blob) yield* await openZip(source);
  else if ("items" in source && "dropEffect" in source) yield* walkDrop(source);
  else if (typeof source === "object" && "length" in source) {
    for (const file of Array.from<File | NamedFile>(source)) yield named(file);
  } else throw new InvalidInputError("the source of files is neither a folder, a list, nor a zip");
}

function named(file: File | NamedFile): NamedFile {
  if ("open" in file) return file;
  return { path: file.webkitRelativePath || file.name, open: () => Promise.resolve(file) };
}

function isDirectory(source: FileSource): source is FileSystemDirectoryHandle {
  return "getDirectoryHandle" in source;
}

async function* walkDirectory(
  folder: FileSystemDirectoryHandle, prefix: string,
): AsyncGenerator<NamedFile> {
  const inside: FileSystemDirectoryHandle[] = [];
  try {
    for await (const handle of folder.values()) {
      if (handle.kind === "directory") inside.push(handle as FileSystemDirectoryHandle);
      else {
        const file = handle as FileSystemFileHandle;
        yield { path: prefix + file.name, open: () => file.getFile() };
      }
    }
  } catch (error) {
    throw new StorageError(`cannot read the folder ${prefix || folder.name}`, {
      why: reasonOf(error), remedy: "choose it again, and allow the page to read it",
    });
  }
  for (const next of inside) yield* walkDirectory(next, `${prefix}${next.name}/`);
}

/** Every browser has `webkitGetAsEntry`; its entries outlive the event, the items do not. */
async function* walkDrop({ items, files }: DataTransfer): AsyncGenerator<NamedFile> {
  const entries = Array.from(items, (item) => item.webkitGetAsEntry());
  const plain = Array.from(files);
  if (entries.every((entry) => entry === null)) {
    for (const file of plain) yield named(file);
    return;
  }
  for (const entry of entries) if (entry) yield* walkEntry(entry);
}

async function* walkEntry(entry: FileSystemEntry): AsyncGenerator<NamedFile> {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const file = entry as FileSystemFileEntry;
    yield { path, open: () => new Promise((resolve, reject) => { file.file(resolve, reject); }) };
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) { // a reader gives a hundred entries at a time
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    }).catch((error: unknown) => {
      throw new StorageError(`cannot read the folder ${path}`, { why: reasonOf(error) });
    });
    if (some.length === 0) return;
    for (const inside of some) yield* walkEntry(inside);
  }
}

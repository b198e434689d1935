/**
 * Named files that outlive the page: in the origin's private file system, else in IndexedDB, else,
 * a few megabytes, in localStorage (`tools/open-store.ts`).
 *
 * Writing is atomic in all three: a file has its old content or its new content, whatever happens
 * to the tab meanwhile.
 */

import type { Bytes } from "./safetensors.ts";
import { loadTools } from "./tools.ts";

/** Where files are kept.  A method rejects with StorageError. */
export interface Store {
  /** What it is, in words. */
  readonly kind: string;
  names(): Promise<string[]>;
  /** The file; undefined if there is none. */
  read(name: string): Promise<Bytes | undefined>;
  /** The file, to be read in parts; undefined if there is none.  A store may have no such way. */
  open?(name: string): Promise<Blob | undefined>;
  /** `inParts`: it will be opened, not read. */
  write(name: string, bytes: Uint8Array, inParts?: boolean): Promise<void>;
  remove(name: string): Promise<void>;
}

/** The best store of this browser; StorageError where it keeps nothing. */
export async function openStore(): Promise<Store> {
  return (await loadTools()).openBestStore();
}

/** A file of a store as a Blob, whether or not the store reads in parts. */
export async function openIn(store: Store, name: string): Promise<Blob | undefined> {
  if (store.open) return store.open(name);
  const bytes = await store.read(name);
  return bytes && new Blob([bytes]);
}

/**
 * Checkpoints by name, the last few of each and its best.
 *
 * A checkpoint is written beside the older ones before any of them goes, so that a tab that is
 * killed in the middle loses the newest at most.
 */

import { StorageError } from "./errors.ts";
import { encodeName } from "./file-names.ts";
import { requireWhole } from "./inputs.ts";
import type { Bytes } from "./safetensors.ts";
import { openStore, type Store } from "./store.ts";

export interface SaveOptions {
  /** Where files are kept; by default the best storage of this browser. */
  store?: Store;
}

export interface KeepOptions extends SaveOptions {
  /** Checkpoints of the name that are kept, 2 by default; its best not counted. */
  keep?: number;
  /** Saves it as the best of the name, beside the others. */
  best?: boolean;
}

/** A name, and the store that it is in if that is not the best of this browser. */
export interface SavedPlace {
  readonly name: string;
  readonly store: Store | undefined;
}

const SUFFIX = ".safetensors";
const BEST = "best";

/** One saved checkpoint; `number` counts the saves of a name. */
export interface Saved {
  readonly name: string;
  readonly number: number | typeof BEST;
}

/** Everything that is saved, the newest of each name first, its best last. */
export async function listSaved(store: Store): Promise<Saved[]> {
  const found = (await store.names()).flatMap((file): Saved[] => {
    const [, name, number] = /^(.+)\.(\d+|best)\.safetensors$/.exec(file) ?? [];
    if (name === undefined || number === undefined) return [];
    return [{ name: decodeURIComponent(name), number: number === BEST ? BEST : Number(number) }];
  });
  const age = ({ number }: Saved): number => (number === BEST ? -1 : number);
  return found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : age(b) - age(a)));
}

/** Saves what `make` gives under a name, in the best store of this browser if none is given. */
export async function saveRun(
  name: string, { keep = 2, best = false, store }: KeepOptions, make: () => Promise<Uint8Array>,
): Promise<void> {
  requireWhole(keep, "keep", 1);
  encodeName(name, "a checkpoint"); // refuses what is none, before anything is opened
  const files = store ?? await openStore();
  const bytes = await make();
  if (best) await files.write(fileOf({ name, number: BEST }), bytes);
  else await save(files, name, bytes, keep);
}

/** Adds a checkpoint, then removes all but the newest `keep` of this name. */
async function save(
  store: Store, name: string, bytes: Uint8Array, keep: number,
): Promise<void> {
  const numbered = (await savesOf(store, name)).filter(({ number }) => number !== BEST);
  const [newest] = numbered;
  const number = newest ? Number(newest.number) + 1 : 0;
  await store.write(fileOf({ name, number }), bytes);
  for (const old of numbered.slice(keep - 1)) await store.remove(fileOf(old));
}

/**
 * Gives the newest checkpoint of a name to `take`, or the one before it if that cannot be read.
 *
 * Raises StorageError where there is none; what is wrong with the newest if all are bad.
 */
export async function readNewest<T>(
  store: Store, name: string, take: (bytes: Bytes) => Promise<T>,
  warn: (message: string) => void,
): Promise<T> {
  let firstError: unknown;
  for (const saved of await savesOf(store, name)) {
    const bytes = await store.read(fileOf(saved));
    if (!bytes) continue; // another tab has removed it
    try {
      return await take(bytes);
    } catch (error) {
      firstError ??= error;
      warn(`the checkpoint ${fileOf(saved)} cannot be used: ${String(error)}`);
    }
  }
  if (firstError instanceof Error) throw firstError;
  const known = [...new Set((await listSaved(store)).map((saved) => saved.name))].join(", ");
  throw new StorageError(`there is no checkpoint "${name}"`, {
    why: known ? `there are ${known}` : `nothing is saved in ${store.kind}`,
  });
}

/** Whether a name has a checkpoint. */
export async function isSaved(name: string, store?: Store): Promise<boolean> {
  return (await savesOf(store ?? await openStore(), name)).length > 0;
}

/** Removes all checkpoints of a name. */
export async function removeSaved(store: Store, name: string): Promise<void> {
  for (const saved of await savesOf(store, name)) await store.remove(fileOf(saved));
}

async function savesOf(store: Store, name: string): Promise<Saved[]> {
  encodeName(name, "a checkpoint"); // refuses what is none
  return (await listSaved(store)).filter((saved) => saved.name === name);
}

function fileOf({ name, number }: Saved): string {
  return `${encodeName(name, "a checkpoint")}.${String(number)}${SUFFIX}`;
}

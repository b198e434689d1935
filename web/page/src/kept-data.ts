/**
 * A person's own data in this browser's storage: a reload finds them again.
 *
 * Two kept data sets, and a note in localStorage that is written last: without it there are none.
 */

import type { Manifest } from "../../runtime/src/index.ts";
import type { HearthData } from "./hearth.ts";
import type { Splits } from "./served-data.ts";

/** Of a split in memory: to read a sample from a file takes about a millisecond. */
const CACHE_BYTES = 256 * 2 ** 20;

/** Whose data, for which model. */
export interface Owner {
  /** The name of the page's checkpoints. */
  page: string;
  manifest: Manifest;
}

/** What says that data are kept. */
interface Note {
  name: string;
  /** Of the model: data for another one under the same name are not taken. */
  inputs: unknown;
}

/** Keeps data in place of those kept before.  Raises StorageError where there is no room. */
export async function keepData(
  readers: HearthData, owner: Owner, { name, train, test }: Splits,
): Promise<void> {
  await forgetData(readers, owner);
  await readers.keepDataset(setName(owner, "train"), train);
  await readers.keepDataset(setName(owner, "test"), test);
  const note: Note = { name, inputs: inputsOf(owner.manifest) };
  localStorage.setItem(noteName(owner), JSON.stringify(note));
}

/** The data that are kept; undefined if there are none.  `readers` are loaded only if there are. */
export async function keptData(
  readers: () => Promise<HearthData>, owner: Owner,
): Promise<Splits | undefined> {
  const note = readNote(owner);
  if (!note) return undefined;
  const { CachedDataset, openDataset } = await readers();
  const open = async (split: "train" | "test") =>
    new CachedDataset(await openDataset(setName(owner, split)), { bytes: CACHE_BYTES });
  const [train, test] = await Promise.all([open("train"), open("test")]);
  return { name: note.name, train, test };
}

/** Removes what is kept. */
export async function forgetData({ removeDataset }: HearthData, owner: Owner): Promise<void> {
  localStorage.removeItem(noteName(owner));
  await removeDataset(setName(owner, "train"));
  await removeDataset(setName(owner, "test"));
}

function readNote(owner: Owner): Note | undefined {
  try {
    const note = JSON.parse(localStorage.getItem(noteName(owner)) ?? "null") as Note | null;
    const fits = JSON.stringify(note?.inputs) === JSON.stringify(inputsOf(owner.manifest));
    return note && fits ? note : undefined;
  } catch {
    return undefined; // storage is closed to the page, or the note is damaged
  }
}

function inputsOf({ programs }: Manifest): unknown {
  return programs["train"]?.inputs.filter(({ role }) => role !== "hyper")
    .map(({ name, dtype, shape, range }) => ({ name, dtype, shape, range }));
}

function setName({ page }: Owner, split: "train" | "test"): string {
  return `${page}, ${split}`;
}

function noteName({ page }: Owner): string {
  return `${page}, data`;
}

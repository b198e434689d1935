/**
 * What was measured on this device, kept from visit to visit: in IndexedDB where the browser gives
 * it, which workers have too, else as long as the page lives.
 */

import { useDatabase } from "./database.ts";

/** The name of the fastest variant by kernel, where that is not the general one. */
export type KernelChoice = Readonly<Record<string, string>>;

const DATABASE = "hearth-kernels"; // checkpoints have a database of theirs
const STORE = "kernel-choices";
const memory = new Map<string, KernelChoice>();

export async function recall(key: string): Promise<KernelChoice | undefined> {
  const known = memory.get(key);
  if (known) return known;
  return useDatabase(DATABASE, STORE, "readonly", (store) =>
    store.get(key) as IDBRequest<KernelChoice | undefined>).catch(() => undefined);
}

export async function remember(key: string, choice: KernelChoice): Promise<void> {
  memory.set(key, choice);
  await useDatabase(DATABASE, STORE, "readwrite", (store) => store.put(choice, key))
    .catch(() => undefined);
}

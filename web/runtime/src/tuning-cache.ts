/**
 * What was measured on this device, kept from visit to visit: in IndexedDB where the browser gives
 * it, which workers have too, else as long as the page lives.
 */

/** The name of the fastest variant by kernel, where that is not the general one. */
export type KernelChoice = Readonly<Record<string, string>>;

const DATABASE = "hearth-kernels"; // a name of its own: checkpoints have another version
const STORE = "kernel-choices";
const memory = new Map<string, KernelChoice>();

export async function recall(key: string): Promise<KernelChoice | undefined> {
  const known = memory.get(key);
  if (known) return known;
  return request<KernelChoice | undefined>("readonly", (store) =>
    store.get(key) as IDBRequest<KernelChoice | undefined>).catch(() => undefined);
}

export async function remember(key: string, choice: KernelChoice): Promise<void> {
  memory.set(key, choice);
  await request<IDBValidKey>("readwrite", (store) => store.put(choice, key)).catch(() => undefined);
}

async function request<T>(
  mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => { opening.result.createObjectStore(STORE); };
  const database = await settled(opening);
  try {
    return await settled(act(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

function settled<T>(pending: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    pending.onsuccess = () => { resolve(pending.result); };
    pending.onerror = () => { reject(pending.error ?? new Error("IndexedDB refused")); };
  });
}

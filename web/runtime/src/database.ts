/** One object store of IndexedDB, opened for every use: nothing is held open between them. */

/** What a request on the store gives, once its transaction is committed. */
export async function useDatabase<T>(
  name: string, store: string, mode: IDBTransactionMode,
  ask: (files: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => { opening.result.createObjectStore(store); };
  const database = await answered(opening);
  try {
    const transaction = database.transaction(store, mode);
    const committed = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => { resolve(); };
      transaction.onabort = () => { reject(transaction.error ?? new Error("aborted")); };
    });
    const [value] = await Promise.all([answered(ask(transaction.objectStore(store))), committed]);
    return value;
  } finally {
    database.close();
  }
}

function answered<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => { resolve(request.result); };
    request.onerror = () => { reject(request.error ?? new Error("the request failed")); };
  });
}

/** The stores of a browser, the best first (`store.ts`). */

import { useDatabase } from "../database.ts";
import { StorageError, reasonOf } from "../errors.ts";
import type { Bytes } from "../safetensors.ts";
import { openIn, type Store } from "../store.ts";

const FOLDER = "hearth";

/** The best store of this browser; StorageError where it keeps nothing. */
export async function openBestStore(): Promise<Store> {
  const reasons: string[] = [];
  for (const open of [openFiles, openDatabase, openLocalStorage]) {
    try {
      return safely(await open());
    } catch (error) {
      reasons.push(reasonOf(error));
    }
  }
  throw new StorageError("this page cannot keep files", {
    why: reasons.join("; "), remedy: "leave private browsing, or save to a file: exportCheckpoint",
  });
}

/** The same store, with every failure as a StorageError. */
function safely(store: Store): Store {
  const guard = async <T>(what: string, work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      const full = saysFull(error);
      throw new StorageError(full ? `there is no room: ${what}` : `storage failed: ${what}`, {
        why: `${store.kind}: ${reasonOf(error)}`,
        remedy: full ? "keep fewer checkpoints, or free space; what was saved before is still there"
          : "save to a file instead: exportCheckpoint",
      });
    }
  };
  return {
    kind: store.kind,
    names: () => guard("listing files", store.names()),
    read: (name) => guard(`reading ${name}`, store.read(name)),
    open: (name) => guard(`opening ${name}`, openIn(store, name)),
    write: (name, bytes, inParts) =>
      guard(`writing ${name}, ${String(bytes.length)} bytes`, store.write(name, bytes, inParts)),
    remove: (name) => guard(`removing ${name}`, store.remove(name)),
  };
}

function saysFull(error: unknown): boolean {
  const name = error instanceof Error ? error.name : "";
  return name === "QuotaExceededError" || name === "NS_ERROR_DOM_QUOTA_REACHED";
}

/** The origin private file system: a writable replaces its file when it is closed, at once. */
async function openFiles(): Promise<Store> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(FOLDER, { create: true });
  if (!("createWritable" in FileSystemFileHandle.prototype)) {
    throw new Error("files cannot be replaced atomically");
  }
  const store: Store = {
    kind: "the origin's private files",
    async names() {
      const found: string[] = [];
      for await (const [name, handle] of folder) {
        if (!isFile(handle) || name.endsWith(".crswap")) continue; // Chromium's own copy
        const file = await ifThere(handle.getFile()); // another call may remove it meanwhile
        // A tab that ended before its first write left an empty file: it was never saved.
        if (file && file.size > 0) found.push(name);
      }
      return found;
    },
    async open(name) {
      if (!(await store.names()).includes(name)) return undefined;
      return ifThere(folder.getFileHandle(name).then((handle) => handle.getFile()));
    },
    async read(name) {
      const file = await openIn(store, name);
      return file && new Uint8Array(await file.arrayBuffer());
    },
    async write(name, bytes) {
      await replaceFile(folder, name, bytes, !(await store.names()).includes(name));
    },
    async remove(name) {
      await ifThere(folder.removeEntry(name));
    },
  };
  return store;
}

/** Undefined where there is no such file any more. */
async function ifThere<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
    throw error;
  }
}

function isFile(handle: FileSystemHandle): handle is FileSystemFileHandle {
  return handle.kind === "file";
}

async function replaceFile(
  folder: FileSystemDirectoryHandle, name: string, bytes: Uint8Array, isNew: boolean,
): Promise<void> {
  const handle = await folder.getFileHandle(name, { create: true });
  const writable = await handle.createWritable();
  try {
    // Takes the room first: a write that finds none may only say that its pipe broke.
    await writable.truncate(bytes.length);
    await writable.write(bytes as Bytes);
    await writable.close();
  } catch (error) {
    await writable.abort().catch(() => undefined); // it may have failed in closing
    if (isNew) await folder.removeEntry(name).catch(() => undefined); // it is empty
    throw error;
  }
}

/** A Blob of a database stays on the disk until its bytes are asked for. */
type Kept = Bytes | Blob | undefined;

async function openDatabase(): Promise<Store> {
  const use = <T>(
    mode: IDBTransactionMode, ask: (files: IDBObjectStore) => IDBRequest<T>,
  ): Promise<T> => useDatabase(FOLDER, FOLDER, mode, ask);
  await use("readonly", (files) => files.count()); // throws where there is none
  return {
    kind: "IndexedDB",
    names: async () => (await use("readonly", (files) => files.getAllKeys())).map(String),
    open: async (name) => {
      const value = await use("readonly", (files) => files.get(name) as IDBRequest<Kept>);
      return value instanceof Uint8Array ? new Blob([value]) : value;
    },
    read: async (name) => {
      const value = await use("readonly", (files) => files.get(name) as IDBRequest<Kept>);
      return value instanceof Blob ? new Uint8Array(await value.arrayBuffer()) : value;
    },
    async write(name, bytes, inParts = false) {
      const value = inParts ? new Blob([bytes as Bytes]) : bytes;
      await use("readwrite", (files) => files.put(value, name));
    },
    remove: (name) => use("readwrite", (files) => files.delete(name)),
  };
}

/** A few megabytes in base64: for tiny models where there is nothing else. */
function openLocalStorage(): Promise<Store> {
  const prefix = `${FOLDER}/`;
  localStorage.removeItem(prefix); // throws where storage is forbidden
  return Promise.resolve({
    kind: "localStorage",
    names: () => Promise.resolve(
      Object.keys(localStorage).filter((key) => key.startsWith(prefix))
        .map((key) => key.slice(prefix.length))),
    async read(name) {
      const text = localStorage.getItem(prefix + name);
      if (text === null) return undefined;
      const response = await fetch(`data:application/octet-stream;base64,${text}`);
      return new Uint8Array(await response.arrayBuffer());
    },
    write(name, bytes) {
      let text = "";
      for (let i = 0; i < bytes.length; i += 0x8000) {
        text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
      }
      localStorage.setItem(prefix + name, btoa(text));
      return Promise.resolve();
    },
    remove(name) {
      localStorage.removeItem(prefix + name);
      return Promise.resolve();
    },
  });
}

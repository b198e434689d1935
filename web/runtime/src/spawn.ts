/**
 * Workers made of this very file: `hearth.js` is the page side, the worker and the helper thread.
 *
 * The worker's name says which of them an instance is.
 */

/** What a dedicated worker's global scope offers us (the DOM typings describe a window). */
export interface WorkerScope {
  name: string;
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

/** The global scope of the worker that this code runs in. */
export function workerScope(): WorkerScope {
  return globalThis as unknown as WorkerScope;
}

/** The name that this worker was given; "" on a page and in Node. */
export function workerName(): string {
  const scope = globalThis as { document?: unknown; name?: unknown };
  return scope.document === undefined && typeof scope.name === "string" ? scope.name : "";
}

/** A module worker that runs `url`, which by default is this file. */
export function spawnWorker(name: string, url: string | URL = import.meta.url): Worker {
  try {
    return new Worker(url, { type: "module", name });
  } catch {
    // A script of another origin cannot be a worker, but a worker may import it.
    const shim = new Blob([`import ${JSON.stringify(String(url))};`], { type: "text/javascript" });
    return new Worker(URL.createObjectURL(shim), { type: "module", name });
  }
}

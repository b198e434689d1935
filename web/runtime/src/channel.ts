/**
 * The page's end of the wire: typed calls to an engine, in a worker or on this very thread.
 */

import {
  BackendError, errorFromData, errorToData, InvalidInputError, reasonOf,
} from "./errors.ts";
import {
  buffersIn, WORKER_NAME, type Call, type CallKind, type Calls, type Message, type Request,
} from "./protocol.ts";
import { Server } from "./server.ts";
import type { EngineEvent } from "./session.ts";
import { spawnWorker } from "./spawn.ts";

export interface Channel {
  call<K extends CallKind>(kind: K, takes: Calls[K]["takes"]): Promise<Calls[K]["gives"]>;
  /** Why the engine's worker has died, if it has. */
  readonly death: BackendError | undefined;
  close(): void;
}

interface Pending {
  resolve: (value: never) => void;
  reject: (error: Error) => void;
}

/** An engine in a dedicated worker. */
export class WorkerChannel implements Channel {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private lastId = 0;
  private hasAnswered = false;
  private closed: BackendError | undefined;
  death: BackendError | undefined;

  constructor(url: string | URL | undefined, private readonly notify: (e: EngineEvent) => void) {
    this.worker = spawnWorker(WORKER_NAME, url);
    this.worker.onmessage = ({ data }: MessageEvent<Message>) => { this.receive(data); };
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.death = died(event.message, this.hasAnswered);
      this.fail(this.death);
    };
  }

  call<K extends CallKind>(kind: K, takes: Calls[K]["takes"]): Promise<Calls[K]["gives"]> {
    if (this.closed) return Promise.reject(this.closed);
    const id = ++this.lastId;
    const request: Request = { id, call: { kind, ...takes } as Call };
    return new Promise<Calls[K]["gives"]>((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      try {
        this.worker.postMessage(request, buffersIn(takes));
      } catch (error) {
        this.pending.delete(id);
        reject(new InvalidInputError("an argument cannot be sent to the worker", {
          why: reasonOf(error),
        }));
      }
    });
  }

  close(): void {
    this.fail(new BackendError("the trainer was disposed"));
    this.worker.terminate();
  }

  private receive(message: Message): void {
    this.hasAnswered = true;
    if (message.kind === "warning" || message.kind === "device") {
      this.notify(message);
      return;
    }
    const pending = this.pending.get(message.id);
    this.pending.delete(message.id);
    if (message.kind === "done") pending?.resolve(message.value as never);
    else pending?.reject(errorFromData(message.error));
  }

  private fail(error: BackendError): void {
    this.closed = error;
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }
}

function died(message: string, hasRun: boolean): BackendError {
  if (!hasRun) {
    return new BackendError("the worker does not run", {
      why: message || "its script could not be loaded",
      remedy: "serve hearth.js as a file of its own, or give its address as workerUrl",
    });
  }
  return new BackendError("the worker that trains has died", {
    why: message || "its memory may have run out",
    remedy: "load the bundle again, or resume the last checkpoint",
  });
}

/** An engine on this thread: for Node, for tests, and for pages that have a worker of their own. */
export class LocalChannel implements Channel {
  readonly death = undefined;
  private readonly server: Server;

  constructor(notify: (event: EngineEvent) => void) {
    this.server = new Server(notify);
  }

  async call<K extends CallKind>(
    kind: K, takes: Calls[K]["takes"],
  ): Promise<Calls[K]["gives"]> {
    try {
      return await this.server.answer({ kind, ...takes } as Call) as Calls[K]["gives"];
    } catch (error) {
      throw errorFromData(errorToData(error));
    }
  }

  close(): void {
    // The engine gave its device back when it answered `dispose`.
  }
}

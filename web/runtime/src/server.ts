/**
 * Answers calls with an engine: in a worker, or on the page itself.
 */

import { fetchSource } from "./bundle.ts";
import { unreachable } from "./elements.ts";
import { Engine } from "./engine.ts";
import { BackendError, errorToData } from "./errors.ts";
import { buffersIn, type Call, type Loaded, type Message, type Request } from "./protocol.ts";
import type { EngineEvent } from "./session.ts";
import { workerScope } from "./spawn.ts";

export class Server {
  private engine: Engine | undefined;

  constructor(private readonly notify: (event: EngineEvent) => void) {}

  /** What the call gives; its type belongs to the call's kind (`Calls`). */
  async answer(call: Call): Promise<unknown> {
    if (call.kind === "load") return this.load(call);
    const engine = this.requireEngine();
    switch (call.kind) {
      case "train": return engine.train(call.x, call.y);
      case "trainSlice": return engine.trainSlice(call);
      case "recover": return engine.recover(call);
      case "findBatchSize": return engine.findBatchSize(call.x, call.y, call.options);
      case "evaluate": return engine.evaluate(call.x, call.y);
      case "predict": return engine.predict(call.x);
      case "gradients": return engine.gradients(call.x, call.y);
      case "run": return engine.run(call.program, call.inputs, call.names);
      case "setLearningRates": return engine.setLearningRates(call.rates);
      case "exportWeights": return engine.exportWeights(call.format);
      case "loadWeights": return engine.loadWeights(call.bytes, call.names);
      case "exportCheckpoint": return engine.exportCheckpoint();
      case "loadCheckpoint": return engine.loadCheckpoint(call.bytes);
      case "dispose": return this.dispose();
      default: return unreachable(call);
    }
  }

  private async load({ source, options }: Extract<Call, { kind: "load" }>): Promise<Loaded> {
    const files = typeof source === "string" ? fetchSource(source) : source;
    this.engine = await Engine.load(files, options, this.notify);
    const { manifest, device, learningRates, schedule, step } = this.engine;
    return { manifest, device, learningRates, schedule, step };
  }

  private dispose(): Promise<void> {
    const engine = this.requireEngine();
    this.engine = undefined;
    return engine.dispose();
  }

  private requireEngine(): Engine {
    if (this.engine) return this.engine;
    throw new BackendError("there is no bundle loaded, or it was disposed");
  }
}

/** What the worker does: answers every request, in any order of completion. */
export function serveAsWorker(): void {
  const scope = workerScope();
  const post = (message: Message, transfer: ArrayBuffer[] = []): void => {
    scope.postMessage(message, transfer);
  };
  const server = new Server(post);
  scope.onmessage = ({ data: { id, call } }: MessageEvent<Request>) => {
    server.answer(call).then(
      (value) => { post({ kind: "done", id, value }, buffersIn(value)); },
      (error: unknown) => { post({ kind: "failed", id, error: errorToData(error) }); },
    );
  };
}

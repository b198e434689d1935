/**
 * The public face: a model that trains in this page's worker.
 *
 * It checks little itself and computes nothing; it copies what the user gives, sends it to the
 * engine, and keeps what the page may ask for at once: device, learning rate, step, warnings.
 */

import type { BundleSource } from "./bundle.ts";
import { LocalChannel, WorkerChannel, type Channel } from "./channel.ts";
import type { Comparison } from "./contest.ts";
import type { Batches } from "./data-loader.ts";
import type { DeviceInfo } from "./device.ts";
import type { Values } from "./elements.ts";
import type {
  EngineEvent, EvaluateResult, TrainResult, WeightFormat,
} from "./engine.ts";
import type { EngineOptions } from "./open.ts";
import { BackendError, HearthError, InvalidInputError } from "./errors.ts";
import { evaluate } from "./evaluate.ts";
import { Fit, type FitOptions } from "./fit.ts";
import { asList, type InputArray, type Inputs } from "./inputs.ts";
import { checkedRates } from "./learning-rate.ts";
import type { Manifest } from "./manifest.ts";
import type { CallKind, Calls, Loaded } from "./protocol.ts";
import type { ScheduledBatch, SliceResult } from "./slice.ts";
import type { NameMap } from "./weights.ts";

export interface TrainerOptions extends EngineOptions {
  /** Called with every warning, such as a backend that is not used and why. */
  onWarning?: (message: string) => void;
  /** Called when another device takes over, or memory for a larger batch was made. */
  onDevice?: (device: DeviceInfo) => void;
  /** `false` computes on this thread: for Node, and inside a worker of the page. */
  worker?: boolean;
  /** Where hearth.js can be fetched, if a bundler has made it part of another script. */
  workerUrl?: string | URL;
}

/** A compiled model that trains on this machine; `Trainer.load` makes one. */
export class Trainer {
  /** Everything the bundle says about its model, inputs and weights. */
  readonly manifest: Manifest;
  private rates: readonly number[];
  private currentDevice: DeviceInfo;
  private currentComparison: Comparison | undefined;
  private completed: number;
  private readonly underWay = new Set<Promise<unknown>>();
  private disposal: Promise<void> | undefined;

  private constructor(
    private readonly channel: Channel, loaded: Loaded,
    private readonly messages: readonly string[],
  ) {
    this.manifest = loaded.manifest;
    this.currentDevice = loaded.device;
    this.rates = loaded.learningRates;
    this.completed = loaded.step;
  }

  /**
   * Loads the bundle under a URL on the best device of this machine.
   *
   * Before it returns it has repeated the bundle's recorded step and compared every value.  Raises
   * BundleFormatError for a bad bundle, BackendError where no backend runs it.
   */
  static async load(
    source: string | URL | BundleSource, options: TrainerOptions = {},
  ): Promise<Trainer> {
    const { onWarning, onDevice, worker = true, workerUrl, ...engineOptions } = options;
    const messages: string[] = [];
    let trainer: Trainer | undefined;
    const notify = (event: EngineEvent): void => {
      if (event.kind === "warning") {
        messages.push(event.message);
        onWarning?.(event.message);
      } else if (trainer) {
        trainer.currentDevice = event.device;
        trainer.currentComparison = event.comparison ?? trainer.currentComparison;
        onDevice?.(event.device);
      }
    };
    const remote = typeof source === "string" || source instanceof URL;
    const channel = remote && worker
      ? new WorkerChannel(workerUrl, notify) : new LocalChannel(notify);
    const address = remote ? absoluteUrl(source) : source;
    try {
      const loaded = await channel.call("load", { source: address, options: engineOptions });
      return (trainer = new Trainer(channel, loaded, messages));
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  /** What computes. */
  get device(): DeviceInfo {
    return this.currentDevice;
  }

  /** What CPU and GPU took for one call, once `backend: "auto"` has decided between them. */
  get comparison(): Comparison | undefined {
    return this.currentComparison;
  }

  /** The warnings since load. */
  get warnings(): readonly string[] {
    return this.messages;
  }

  /** Completed training steps. */
  get step(): number {
    return this.completed;
  }

  /** The learning rate; a list where the optimizer has several parameter groups. */
  get learningRate(): number | readonly number[] {
    const [first] = this.rates;
    return this.rates.length === 1 && first !== undefined ? first : this.rates;
  }

  /** A number sets all groups, a list one each; it holds from the next step on. */
  set learningRate(value: number | readonly number[]) {
    this.requireUse();
    this.rates = checkedRates(value, this.rates.length);
    // It fails only with the worker, and then the next step says so.
    this.channel.call("setLearningRates", { rates: this.rates }).catch(() => undefined);
  }

  /**
   * One training step on a batch.  Steps may be started without waiting for the one before.
   *
   * Raises InvalidInputError before anything is computed, NumericalInstabilityError after a step
   * whose loss is not finite.
   */
  async trainBatch(x: Inputs, y?: Inputs): Promise<TrainResult> {
    try {
      const result = await this.call("train", copyBatch(x, y));
      this.advance(result.step);
      return result;
    } catch (error) {
      if (error instanceof HearthError) this.advance(error.step);
      throw error;
    }
  }

  /**
   * Trains epoch by epoch: `for await (const event of trainer.fit(loader, { epochs: 5 })) …`.
   *
   * Leaving the loop ends the run after the steps that are under way.  Raises what `trainBatch`
   * raises, from the loop; every step before has been reported and counts.
   */
  fit(batches: Batches, options: FitOptions = {}): Fit {
    return new Fit(this, batches, options);
  }

  /** Loss and metrics over all batches in evaluation mode, weighted by their samples. */
  async evaluate(batches: Batches): Promise<EvaluateResult> {
    return evaluate(this, batches);
  }

  /** Several steps in one message, for `fit`; a run ends with its first failure. */
  async trainSlice(batches: readonly ScheduledBatch[], run: number): Promise<SliceResult> {
    const copies = batches.map(({ x, y, rates }) => ({ ...copyBatch(x, y), rates }));
    const result = await this.call("trainSlice", { run, batches: copies });
    this.advance(result.steps.at(-1)?.step);
    this.advance(result.failure?.step);
    this.rates = batches[result.steps.length - 1]?.rates ?? this.rates;
    return result;
  }

  /** Loss and metrics of a batch in evaluation mode; nothing changes. */
  async evaluateBatch(x: Inputs, y?: Inputs): Promise<EvaluateResult> {
    return this.call("evaluate", copyBatch(x, y));
  }

  /** What the model returns in evaluation mode; of several tensors the first (see `run`). */
  async predict(x: Inputs): Promise<Float32Array> {
    return this.call("predict", { x: copyInputs(x, "x") });
  }

  /** The gradient of every trained parameter by name, in training mode, without an update. */
  async gradients(x: Inputs, y?: Inputs): Promise<Record<string, Float32Array>> {
    return this.call("gradients", copyBatch(x, y)) as Promise<Record<string, Float32Array>>;
  }

  /** Runs any program of the bundle on inputs by name; gives all its outputs by name. */
  async run(
    program: string, inputs: Readonly<Record<string, InputArray>>,
  ): Promise<Record<string, Values>> {
    const copies = Object.entries(inputs).map(([name, data]) =>
      [name, copyInputs(data, name)] as const);
    const { outputs, step } = await this.call("run", {
      program, inputs: Object.fromEntries(copies) as Record<string, InputArray>,
    });
    this.advance(step);
    return outputs;
  }

  /** The weights under their state_dict keys: a safetensors file, or the JSON form. */
  async exportWeights(format: WeightFormat = "safetensors"): Promise<Uint8Array> {
    return this.call("exportWeights", { format });
  }

  /** Replaces all weights; `names` maps keys of the file to keys of the model. */
  async loadWeights(bytes: Uint8Array | ArrayBuffer | string, names?: NameMap): Promise<void> {
    return this.call("loadWeights", { bytes: copyBytes(bytes), names });
  }

  /** The whole run in one file: weights, optimizer state, step, seed and learning rates. */
  async exportCheckpoint(): Promise<Uint8Array> {
    return this.call("exportCheckpoint", {});
  }

  /** Continues the run of a checkpoint, also of one that PyTorch's side wrote. */
  async loadCheckpoint(bytes: Uint8Array | ArrayBuffer): Promise<void> {
    const { step, learningRates } = await this.call("loadCheckpoint", { bytes: copyBytes(bytes) });
    this.completed = step;
    this.rates = learningRates;
  }

  /** Waits for the calls made before, then ends the worker and frees its memory. */
  dispose(): Promise<void> {
    this.disposal ??= Promise.allSettled(this.underWay)
      .then(() => this.channel.call("dispose", {}))
      .catch(() => undefined) // a worker that failed has nothing to give back
      .then(() => { this.channel.close(); });
    return this.disposal;
  }

  /** Replies may come in another order than their steps. */
  private advance(step = 0): void {
    this.completed = Math.max(this.completed, step);
  }

  private call<K extends CallKind>(
    kind: K, takes: Calls[K]["takes"],
  ): Promise<Calls[K]["gives"]> {
    this.requireUse();
    const result = this.channel.call(kind, takes);
    this.underWay.add(result);
    const done = (): void => { this.underWay.delete(result); };
    result.then(done, done);
    return result;
  }

  private requireUse(): void {
    if (this.disposal) {
      throw new BackendError("the trainer was disposed", { remedy: "load the bundle again" });
    }
  }
}

function absoluteUrl(url: string | URL): string {
  const base = (globalThis.document as Document | undefined)?.baseURI
    ?? (globalThis.location as Location | undefined)?.href;
  try {
    return new URL(url, base).href;
  } catch {
    throw new InvalidInputError(`${JSON.stringify(url)} is not the address of a bundle`);
  }
}

function copyBatch(x: Inputs, y: Inputs | undefined): { x: Inputs; y: Inputs | undefined } {
  return { x: copyInputs(x, "x"), y: y === undefined ? y : copyInputs(y, "y") };
}

/** A copy that can be given away; the user's arrays stay the user's. */
function copyInputs(given: Inputs, label: string): Inputs {
  const copies = asList(given, label).map((array) => array.slice() as InputArray);
  return copies.length === 1 && copies[0] ? copies[0] : copies;
}

function copyBytes(given: Uint8Array | ArrayBuffer | string): Uint8Array {
  if (typeof given === "string") return new TextEncoder().encode(given);
  if (given instanceof ArrayBuffer) return new Uint8Array(given.slice());
  if (given instanceof Uint8Array) return given.slice();
  throw new InvalidInputError("the file is not given as a Uint8Array, ArrayBuffer or string");
}

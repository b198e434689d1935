/**
 * The public face: a model that trains in this page's worker.
 *
 * It checks little itself and computes nothing; it copies what the user gives, sends it to the
 * engine, and keeps what the page may ask for at once: device, learning rate, step, warnings.
 */

import { BatchMemory } from "./batch-memory.ts";
import type { BatchSize, BatchSizeOptions } from "./tools/batch-size.ts";
import type { BundleSource } from "./bundle.ts";
import { Connection, type ConnectionOptions, type Rescued } from "./connection.ts";
import type { Comparison } from "./contest.ts";
import type { Batches } from "./data-loader.ts";
import type { DeviceInfo } from "./device.ts";
import type { Values } from "./elements.ts";
import type { EvaluateResult, TrainResult, WeightFormat } from "./engine.ts";
import { BackendError, HearthError } from "./errors.ts";
import { copyBatch, copyBytes, copyInputs } from "./copies.ts";
import { evaluate } from "./evaluate.ts";
import { explain, type ExplainOptions } from "./explain.ts";
import { Fit, type FitOptions } from "./fit.ts";
import { requireWhole, type InputArray, type Inputs } from "./inputs.ts";
import { inspect, type InspectOptions, type Inspection } from "./inspection.ts";
import { checkedRates, tableSchedule, type Schedule } from "./learning-rate.ts";
import type { Manifest } from "./manifest.ts";
import { neededBytes } from "./memory.ts";
import type { CallKind, Calls, Loaded } from "./protocol.ts";
import { resume, type ResumeOptions } from "./resume.ts";
import type { Recovered, RecoverRequest } from "./tools/recovery.ts";
import { RunLog } from "./run-log.ts";
import type { Cursor, RunRecord } from "./run-record.ts";
import {
  isSaved, listSaved, readNewest, removeSaved, saveRun, type KeepOptions, type Saved,
  type SavedPlace, type SaveOptions,
} from "./saved-runs.ts";
import type { SliceRequest, SliceResult } from "./slice.ts";
import { openStore, type Store } from "./store.ts";
import { loadTools } from "./tools.ts";
import type { NameMap } from "./weights.ts";

export interface TrainerOptions extends ConnectionOptions {
  /** Continues the newest checkpoint of this name, where there is one. */
  resume?: string;
  /** Where that is kept; by default the best storage of this browser. */
  store?: Store;
}

/** A compiled model that trains on this machine; `Trainer.load` makes one. */
export class Trainer {
  /** Everything the bundle says about its model, inputs and weights. */
  readonly manifest: Manifest;
  /** The learning rates of the PyTorch scheduler that the bundle was compiled with, for `fit`. */
  readonly schedule: Schedule | undefined;
  /** For `fit`: what it knows of the run. */
  readonly log: RunLog;
  /** For `fit`: where the next batches are copied to. */
  readonly memory = new BatchMemory();
  private rates: readonly number[];
  /** Where the run was saved last. */
  private saved: SavedPlace | undefined;
  private readonly underWay = new Set<Promise<unknown>>();
  private disposal: Promise<void> | undefined;

  private constructor(private readonly connection: Connection, loaded: Loaded) {
    this.manifest = loaded.manifest;
    this.schedule = loaded.schedule && tableSchedule(loaded.schedule, loaded.step);
    this.rates = loaded.learningRates;
    this.log = new RunLog(loaded.step);
  }

  /**
   * Loads the bundle under a URL on the best device of this machine; with `resume`, at the newest
   * checkpoint of that name if there is one, else as it is.
   *
   * Before it returns it has repeated the bundle's recorded step and compared every value.  Raises
   * BundleFormatError for a bad bundle, BackendError where no backend runs it.
   */
  static async load(
    source: string | URL | BundleSource, { resume, store, ...options }: TrainerOptions = {},
  ): Promise<Trainer> {
    if (resume !== undefined && await isSaved(resume, store)) {
      return Trainer.resume(resume, { ...options, ...(store ? { store } : {}), source });
    }
    const { connection, loaded } = await Connection.open(source, options);
    return new Trainer(connection, loaded);
  }

  /**
   * Continues a saved run where its newest readable checkpoint left it, on the bundle that it was
   * trained with, or on `source`.
   *
   * `fit(loader, { epochs, from: trainer.cursor })` then takes the same steps as if nothing had
   * happened, bit for bit on the same backend.  Raises StorageError where nothing is saved under
   * the name, and what `load` and `loadCheckpoint` raise.
   */
  static async resume(name: string, options: ResumeOptions = {}): Promise<Trainer> {
    const trainer = await resume(name, options, (origin, rest) => Trainer.load(origin, rest));
    trainer.saved = { name, store: options.store };
    return trainer;
  }

  /** All saved checkpoints of this site, the newest of each name first. */
  static async checkpoints({ store }: SaveOptions = {}): Promise<Saved[]> {
    return listSaved(store ?? await openStore());
  }

  /** Removes all checkpoints of a name. */
  static async removeCheckpoints(name: string, { store }: SaveOptions = {}): Promise<void> {
    return removeSaved(store ?? await openStore(), name);
  }

  /** What computes. */
  get device(): DeviceInfo {
    return this.connection.device;
  }

  /** What CPU and GPU took for one call, once `backend: "auto"` has decided between them. */
  get comparison(): Comparison | undefined {
    return this.connection.comparison;
  }

  /** The warnings since load. */
  get warnings(): readonly string[] {
    return this.connection.warnings;
  }

  /** Completed training steps. */
  get step(): number {
    return this.log.completed;
  }

  /**
   * The epoch of `fit` and the batch in it that come next; past the end of the epoch where it ended
   * with a step of fewer batches, until its event `epoch`.
   */
  get cursor(): Cursor {
    return this.log.cursor;
  }

  /** The losses, metrics and validations of `fit`, also of before a resume. */
  get history(): Pick<RunRecord, "losses" | "lossStep" | "metrics" | "validations"> {
    return this.log.record;
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
    this.connection.call("setLearningRates", { rates: this.rates }).catch(() => undefined);
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
      this.log.advance(result.step);
      return result;
    } catch (error) {
      if (error instanceof HearthError) this.log.advance(error.step);
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

  /** Loss and metrics over all batches in evaluation mode: weighted means, and sums of counts. */
  async evaluate(batches: Batches): Promise<EvaluateResult> {
    return evaluate(this, batches);
  }

  /** Several steps in one message, for `fit`; a run ends with its first failure. */
  async trainSlice({ steps, ...rest }: SliceRequest): Promise<SliceResult> {
    const copies = steps.map(({ batches, rates }) =>
      ({ batches: batches.map(({ x, y }) => copyBatch(x, y, this.memory)), rates }));
    const result = await this.call("trainSlice", { ...rest, steps: copies });
    this.memory.give(result.spent ?? []);
    this.log.note(result);
    this.rates = steps[result.steps.length - 1]?.rates ?? this.rates;
    return result;
  }

  /** For `fit`: takes a failed step back. */
  async recover(request: RecoverRequest): Promise<Recovered> {
    const recovered = await this.call("recover", request);
    this.log.rewind(recovered.restored, recovered);
    this.rates = recovered.learningRates;
    return recovered;
  }

  /** For `fit`: the devices that failed since it was asked last, and what goes on. */
  takeRescues(): readonly Rescued[] {
    return this.connection.takeRescues();
  }

  /** For `fit`: whether the worker has died, and another one has got the newest checkpoint. */
  async revive(): Promise<boolean> {
    if (!this.connection.death || !this.saved || this.disposal) return false;
    const { name, store } = this.saved;
    await this.connection.reopen();
    await readNewest(store ?? await openStore(), name, (bytes) => this.loadCheckpoint(bytes),
      (message) => { this.connection.warn(message); });
    return true;
  }

  /** Exactly the memory that training on batches of up to `batchSize` takes on this device. */
  bytesFor(batchSize: number): number {
    requireWhole(batchSize, "batchSize", 1);
    return neededBytes(this.manifest, batchSize, this.device);
  }

  /**
   * The batch size that trains most samples in a second within the budget, by trial steps on these
   * samples; the state is afterwards what it was before.
   */
  async bestBatchSize(
    x: Inputs, y?: Inputs, options: BatchSizeOptions = {},
  ): Promise<BatchSize> {
    return this.call("findBatchSize", { ...copyBatch(x, y), options });
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

  /**
   * Looks into one training step on a batch, without doing it: statistics and histograms of every
   * module output, parameter, gradient and update, and units that are of no use.
   */
  async inspect(x: Inputs, y?: Inputs, options?: InspectOptions): Promise<Inspection> {
    return inspect(this.manifest, this.run.bind(this), x, y, options);
  }

  /** What the model looks at, by a method of `hearth.explain`, with the weights of now. */
  async explain(
    method: string, images: Float32Array, options: ExplainOptions,
  ): Promise<Float32Array> {
    return explain(this.manifest, this.run.bind(this), method, images, options);
  }

  /** Runs any program of the bundle on inputs by name; gives its outputs, all or those `names`. */
  async run(
    program: string, inputs: Readonly<Record<string, InputArray>>, names?: readonly string[],
  ): Promise<Record<string, Values>> {
    const copies = Object.entries(inputs).map(([name, data]) =>
      [name, copyInputs(data, name)] as const);
    const { outputs, step } = await this.call("run", {
      program, inputs: Object.fromEntries(copies) as Record<string, InputArray>,
      names,
    });
    this.log.advance(step);
    return outputs;
  }

  /** The weights under their state_dict keys: a safetensors file, or the JSON form. */
  async exportWeights(format: WeightFormat = "safetensors"): Promise<Uint8Array> {
    return this.call("exportWeights", { format });
  }

  /**
   * What training has changed since a file of weights or a checkpoint, as `hearth.save_delta`
   * writes it, for `hearth.apply_delta`; BundleFormatError names what is not of this model.
   */
  async exportDelta(since: Uint8Array | ArrayBuffer): Promise<Uint8Array> {
    const before = copyBytes(since);
    const after = await this.exportWeights();
    const { encodeDelta } = await loadTools();
    return encodeDelta(before, after);
  }

  /** Replaces all weights; `names` maps keys of the file to keys of the model. */
  async loadWeights(bytes: Uint8Array | ArrayBuffer | string, names?: NameMap): Promise<void> {
    return this.call("loadWeights", { bytes: copyBytes(bytes), names });
  }

  /** The whole run in one file: weights, optimizer state, step, seed, rates, cursor, history. */
  async exportCheckpoint(): Promise<Uint8Array> {
    const before = [...this.underWay];
    const { bytes, step } = await this.call("exportCheckpoint", {});
    await Promise.allSettled(before); // so that their losses are in the record
    const { addRecord } = await loadTools();
    return addRecord(bytes, this.log.record, step, this.connection.address);
  }

  /** Continues the run of a checkpoint, also of one that PyTorch's side wrote. */
  async loadCheckpoint(bytes: Uint8Array | ArrayBuffer): Promise<void> {
    const loaded = await this.call("loadCheckpoint", { bytes: copyBytes(bytes) });
    this.rates = loaded.learningRates;
    this.log.replace(loaded.step, loaded.record);
  }

  /**
   * Saves the run in this browser under a name, and keeps the newest `keep` checkpoints of it.
   *
   * Killing the tab meanwhile loses the newest at most.  Raises StorageError; what was saved before
   * is still there.
   */
  async saveCheckpoint(name: string, options: KeepOptions = {}): Promise<void> {
    await saveRun(name, options, () => this.exportCheckpoint());
    if (!options.best) this.saved = { name, store: options.store };
  }

  /** Waits for the calls made before, then ends the worker and frees its memory. */
  dispose(): Promise<void> {
    this.disposal ??= Promise.allSettled(this.underWay)
      .then(() => this.connection.call("dispose", {}))
      .catch(() => undefined) // a worker that failed has nothing to give back
      .then(() => { this.connection.close(); });
    return this.disposal;
  }

  private call<K extends CallKind>(
    kind: K, takes: Calls[K]["takes"],
  ): Promise<Calls[K]["gives"]> {
    this.requireUse();
    const result = this.connection.call(kind, takes);
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

/**
 * What the worker runs: one bundle on one device, with its state.
 *
 * Calls take effect in the order in which they are made; several steps may be under way at once.
 * The engine knows nothing of workers and pages, so tests and Node run it directly.
 */

import type { BundleSource } from "./bundle.ts";
import { Contest } from "./contest.ts";
import { countsOf, type Counts } from "./counts.ts";
import type { DeviceInfo } from "./device.ts";
import type { Values } from "./elements.ts";
import { InvalidInputError } from "./errors.ts";
import type { Result, Wanted } from "./executor.ts";
import { namedArguments, type Argument, type InputArray, type Inputs } from "./inputs.ts";
import type { RateTable } from "./learning-rate.ts";
import { isWeight, type Manifest } from "./manifest.ts";
import type { Calls } from "./protocol.ts";
import { openExecutor, type EngineOptions } from "./open.ts";
import type { Bytes } from "./safetensors.ts";
import { Session, type EngineEvent } from "./session.ts";
import { Slices, type SliceRequest, type SliceResult } from "./slice.ts";
import { scalars, StepJudge } from "./step-judge.ts";
import { batchArguments, MEASURED, startStep } from "./step-launch.ts";
import { completedSteps, savedSpan, spanOf } from "./state.ts";
import { loadTools, prepareTools } from "./tools.ts";
import type { BatchSize, BatchSizeOptions } from "./tools/batch-size.ts";
import type { Judge, Recovered, RecoverRequest } from "./tools/recovery.ts";
import {
  readWeights, writeJson, writeSafetensors, writeWeights, type NameMap, type WeightLayout,
} from "./weights.ts";

export interface Scalars {
  loss: number;
  /** The metrics of the model by name, and `norm`, the gradient norm, where there is one. */
  metrics: Record<string, number>;
}

export interface EvaluateResult extends Scalars {
  /** The metrics with dimensions by name, such as a confusion matrix. */
  counts: Counts;
}

export interface TrainResult extends Scalars {
  /** Completed training steps, this one included. */
  step: number;
  /** In `fit`: deviations of the loss above its running mean, where it is a spike. */
  spike?: number;
}

export interface RunResult {
  outputs: Record<string, Values>;
  /** Completed training steps, this run included if it was one. */
  step: number;
}

export type WeightFormat = "safetensors" | "json";

const NO_RUN = 0;

/** A bundle on a device, on this very thread: what a `Trainer` has in its worker. */
export class Engine {
  private readonly slices = new Slices(async ({ batches, rates }) => {
    if (rates) await this.setLearningRates(rates);
    const { results, step } = await startStep(this.session, batches);
    return { result: results.then((found) => this.judge.step(found, step)) };
  });
  private readonly judge: StepJudge;
  private readonly suspects = new WeakSet<readonly Argument[]>();

  private constructor(
    private readonly session: Session,
    private readonly layout: WeightLayout,
    readonly schedule: RateTable | undefined,
  ) {
    this.judge = new StepJudge(session.journal);
  }

  /** Loads a bundle on the best device that repeats the recorded step correctly. */
  static async load(
    source: BundleSource, options: EngineOptions, notify: (event: EngineEvent) => void,
  ): Promise<Engine> {
    const warn = (message: string): void => { notify({ kind: "warning", message }); };
    const opened = await openExecutor(source, options, warn);
    const { executor, challenger, layout, schedule, reopen } = opened;
    const contest = challenger && new Contest(challenger, warn);
    const completed = await completedSteps(executor.manifest, executor.device);
    const session = new Session(executor, completed, contest, reopen, notify);
    return new Engine(session, layout, schedule);
  }

  get manifest(): Manifest {
    return this.session.manifest;
  }

  get device(): DeviceInfo {
    return this.session.device;
  }

  get learningRates(): readonly number[] {
    return this.session.executor.learningRates;
  }

  /** Completed training steps, those under way included. */
  get step(): number {
    return this.session.completed;
  }

  /** One training step. */
  async train(x: Inputs, y?: Inputs): Promise<TrainResult> {
    if (this.judge.begin(NO_RUN, undefined)) this.session.keepPictures();
    const { results, step } = await startStep(this.session, [{ x, y }]);
    return this.judge.step(await results, step);
  }

  /** Several steps in one call; a run that has failed takes no more. */
  async trainSlice({ run, steps, guard }: SliceRequest): Promise<SliceResult> {
    if (this.judge.begin(run, guard)) {
      this.session.keepPictures(guard?.everySteps);
      prepareTools();
    }
    const result = await this.slices.take(run, steps);
    return { ...result, spent: this.session.journal.takeSpent() };
  }

  /** Takes a failed step of a guarded run back, after the calls that were made before. */
  recover(request: RecoverRequest): Promise<Recovered> {
    this.slices.forgive();
    const judge: Judge = (results, step) => this.judge.step(results, step);
    return this.session.inOrder(async () => {
      const { recover } = await loadTools();
      return recover(this.session, request, judge, this.suspects);
    });
  }

  /** Which batch size trains fastest within the budget; the state stays. */
  findBatchSize(x: Inputs, y: Inputs | undefined, options: BatchSizeOptions): Promise<BatchSize> {
    return this.session.onDevice(async (executor) => {
      const { findBatchSize } = await loadTools();
      return findBatchSize(executor, this.batch("train", x, y), options);
    });
  }

  async evaluate(x: Inputs, y?: Inputs): Promise<EvaluateResult> {
    const program = "evaluate";
    const { results } = await this.start(program, MEASURED, () => this.batch(program, x, y));
    return { ...scalars(results), counts: countsOf(results) };
  }

  /** The first tensor that the model returns. */
  async predict(x: Inputs): Promise<Float32Array> {
    const program = "predict";
    const { results } = await this.start(program, ["output"],
      () => this.batch(program, x, undefined));
    const values = results[0]?.values ?? new Float32Array(0);
    return values instanceof Float32Array ? values : Float32Array.from(values);
  }

  /** The gradient of every trained parameter by name; the state stays. */
  async gradients(x: Inputs, y?: Inputs): Promise<Record<string, Values>> {
    const program = "gradients";
    const { results } = await this.start(program, ["gradient"], () => this.batch(program, x, y));
    return byName(results);
  }

  /**
   * Runs any program on inputs by name; gives its outputs by name, all or those of `names`.
   *
   * One that training does not take, such as `inspect`, may have kernels to compile at first; then
   * its turn comes after the calls that are made meanwhile.
   */
  async run(
    program: string, inputs: Readonly<Record<string, InputArray>>, names?: readonly string[],
  ): Promise<RunResult> {
    const compiling = this.session.executor.device.prepare?.(program);
    if (compiling) await compiling.catch(() => undefined); // its start hears of it
    const { results, step } = await this.start(program, names && { names },
      () => namedArguments(this.session.executor.program(program), inputs));
    return { outputs: byName(results), step };
  }

  /** New learning rates, one per parameter group, from the next step on. */
  setLearningRates(rates: readonly number[]): Promise<void> {
    return this.session.inOrder(() => {
      this.session.executor.learningRates = rates;
      return Promise.resolve();
    });
  }

  exportWeights(format: WeightFormat): Promise<Bytes> {
    return this.session.onDevice(async ({ device }) => {
      const span = spanOf(this.manifest.state.filter(isWeight));
      const image = await device.readState(span);
      switch (format) {
        case "safetensors":
          return writeSafetensors(this.layout, image, span.offset);
        case "json":
          return writeJson(this.manifest, image, span.offset);
        default:
          throw new InvalidInputError(`there is no weight format ${JSON.stringify(format)}`);
      }
    });
  }

  /** Replaces all weights; optimizer state and step count stay. */
  loadWeights(bytes: Uint8Array, names?: NameMap): Promise<void> {
    return this.session.onDevice(async ({ device }) => {
      const tensors = readWeights(this.manifest, bytes, names);
      const span = spanOf([...tensors.keys()]);
      const image = await device.readState(span);
      writeWeights(image, span.offset, tensors);
      device.writeState(span.offset, image);
      this.session.journal.reset();
    });
  }

  /** The checkpoint of now, and the steps that it has completed. */
  exportCheckpoint(): Promise<{ bytes: Bytes; step: number }> {
    return this.session.onDevice(async ({ device, learningRates }) => {
      const { writeCheckpoint } = await loadTools();
      const image = await device.readState(savedSpan(this.manifest));
      const progress = { step: this.step, learningRates: [...learningRates] };
      return { bytes: writeCheckpoint(this.manifest, image, progress), step: progress.step };
    });
  }

  /** Continues the run of a checkpoint; returns its step, its learning rates and its record. */
  loadCheckpoint(bytes: Uint8Array): Promise<Calls["loadCheckpoint"]["gives"]> {
    return this.session.onDevice(async (executor) => {
      const { readCheckpoint, readRecord } = await loadTools();
      const image = await executor.device.readState(savedSpan(this.manifest));
      const progress = readCheckpoint(this.manifest, bytes, image);
      const record = readRecord(bytes)?.record;
      executor.device.writeState(0, image);
      executor.learningRates = progress.learningRates;
      this.session.completed = progress.step;
      this.session.journal.reset();
      return { ...progress, record };
    });
  }

  /** Gives the device back after the calls made before; await their results first. */
  dispose(): Promise<void> {
    return this.session.dispose();
  }

  private batch(program: string, x: Inputs, y: Inputs | undefined): Argument[] {
    return batchArguments(this.session.executor.program(program), x, y);
  }

  private async start(
    program: string, roles: Wanted | undefined, given: () => Argument[],
  ): Promise<{ results: Result[]; step: number }> {
    const [launched] = await this.session.launchAll([{ program, roles, given }]);
    return { results: await launched?.running.results ?? [], step: launched?.step ?? this.step };
  }
}

function byName(results: readonly Result[]): Record<string, Values> {
  return Object.fromEntries(results.map(({ output, values }) => [output.name, values]));
}

/**
 * What the worker runs: one bundle on one device, with its state.
 *
 * Calls take effect in the order in which they are made; several steps may be under way at once.
 * The engine knows nothing of workers and pages, so tests and Node run it directly.
 */

import type { BundleSource } from "./bundle.ts";
import { readCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import { Contest, type Comparison } from "./contest.ts";
import type { DeviceInfo } from "./device.ts";
import type { Values } from "./elements.ts";
import { InvalidInputError, NumericalInstabilityError } from "./errors.ts";
import { scalarOf, type Executor, type Result, type Running } from "./executor.ts";
import {
  namedArguments, positionalArguments, type Argument, type InputArray, type Inputs,
} from "./inputs.ts";
import type { RateTable } from "./learning-rate.ts";
import { isWeight, type Manifest, type OutputRole } from "./manifest.ts";
import { openExecutor, type EngineOptions } from "./open.ts";
import type { Bytes } from "./safetensors.ts";
import { Slices, type ScheduledBatch, type SliceResult } from "./slice.ts";
import { completedSteps, spanOf } from "./state.ts";
import {
  readWeights, writeJson, writeSafetensors, writeWeights, type NameMap, type WeightLayout,
} from "./weights.ts";

export type EngineEvent =
  | { kind: "warning"; message: string }
  | { kind: "device"; device: DeviceInfo; comparison?: Comparison };

export interface EvaluateResult {
  loss: number;
  /** The metrics of the model by name, and `norm`, the gradient norm, where there is one. */
  metrics: Record<string, number>;
}

export interface TrainResult extends EvaluateResult {
  /** Completed training steps, this one included. */
  step: number;
}

export interface RunResult {
  outputs: Record<string, Values>;
  /** Completed training steps, this run included if it was one. */
  step: number;
}

export type WeightFormat = "safetensors" | "json";

/** A program that has been started, after `step` completed training steps, itself included. */
interface Launched {
  running: Running;
  step: number;
}

const SCALARS: readonly OutputRole[] = ["loss", "metric", "norm"];

/** A bundle on a device, on this very thread: what a `Trainer` has in its worker. */
export class Engine {
  private tail: Promise<unknown> = Promise.resolve();
  private readonly slices = new Slices(async ({ x, y, rates }) => {
    if (rates) await this.setLearningRates(rates);
    const { running, step } = await this.launchStep(x, y);
    return { result: running.results.then((results) => trainResult(results, step)) };
  });

  private constructor(
    private executor: Executor,
    private readonly contest: Contest | undefined,
    private readonly layout: WeightLayout,
    readonly schedule: RateTable | undefined,
    private completed: number,
    private readonly notify: (event: EngineEvent) => void,
  ) {}

  /** Loads a bundle on the best device that repeats the recorded step correctly. */
  static async load(
    source: BundleSource, options: EngineOptions, notify: (event: EngineEvent) => void,
  ): Promise<Engine> {
    const warn = (message: string): void => { notify({ kind: "warning", message }); };
    const { executor, challenger, layout, schedule } = await openExecutor(source, options, warn);
    const contest = challenger && new Contest(challenger, warn);
    const completed = await completedSteps(executor.manifest, executor.device);
    return new Engine(executor, contest, layout, schedule, completed, notify);
  }

  get manifest(): Manifest {
    return this.executor.manifest;
  }

  get device(): DeviceInfo {
    return this.executor.device.info;
  }

  get learningRates(): readonly number[] {
    return this.executor.learningRates;
  }

  /** Completed training steps, those under way included. */
  get step(): number {
    return this.completed;
  }

  /** One training step. */
  async train(x: Inputs, y?: Inputs): Promise<TrainResult> {
    const { running, step } = await this.launchStep(x, y);
    return trainResult(await running.results, step);
  }

  /** Several steps in one call; a run that has failed takes no more. */
  trainSlice(run: number, batches: readonly ScheduledBatch[]): Promise<SliceResult> {
    return this.slices.take(run, batches);
  }

  async evaluate(x: Inputs, y?: Inputs): Promise<EvaluateResult> {
    const program = "evaluate";
    const { results } = await this.start(program, SCALARS, () => this.batch(program, x, y));
    return scalars(results);
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

  /** Runs any program on inputs by name; gives all its outputs by name. */
  async run(
    program: string, inputs: Readonly<Record<string, InputArray>>,
  ): Promise<RunResult> {
    const { results, step } = await this.start(program, undefined,
      () => namedArguments(this.executor.program(program), inputs));
    return { outputs: byName(results), step };
  }

  /** New learning rates, one per parameter group, from the next step on. */
  setLearningRates(rates: readonly number[]): Promise<void> {
    return this.inOrder(() => {
      this.executor.learningRates = rates;
      return Promise.resolve();
    });
  }

  exportWeights(format: WeightFormat): Promise<Bytes> {
    return this.inOrder(async () => {
      const span = spanOf(this.manifest.state.filter(isWeight));
      const image = await this.executor.device.readState(span);
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
    return this.inOrder(async () => {
      const tensors = readWeights(this.manifest, bytes, names);
      const { device } = this.executor;
      const span = spanOf([...tensors.keys()]);
      const image = await device.readState(span);
      writeWeights(image, span.offset, tensors);
      device.writeState(span.offset, image);
    });
  }

  /** The checkpoint of now, and the steps that it has completed. */
  exportCheckpoint(): Promise<{ bytes: Bytes; step: number }> {
    return this.inOrder(async () => {
      const image = await this.executor.device.readState(this.wholeState());
      const progress = { step: this.completed, learningRates: [...this.executor.learningRates] };
      return { bytes: writeCheckpoint(this.manifest, image, progress), step: progress.step };
    });
  }

  /** Continues the run of a checkpoint; returns its step and learning rates. */
  loadCheckpoint(bytes: Uint8Array): Promise<{ step: number; learningRates: number[] }> {
    return this.inOrder(async () => {
      const { device } = this.executor;
      const image = await device.readState(this.wholeState());
      const progress = readCheckpoint(this.manifest, bytes, image);
      device.writeState(0, image);
      this.completed = progress.step;
      this.executor.learningRates = progress.learningRates;
      return progress;
    });
  }

  /** Gives the device back after the calls made before; await their results first. */
  dispose(): Promise<void> {
    return this.inOrder(() => {
      this.contest?.dispose();
      this.executor.device.dispose();
      return Promise.resolve();
    });
  }

  private batch(program: string, x: Inputs, y: Inputs | undefined): Argument[] {
    const entries = this.executor.program(program);
    const inputs = positionalArguments(entries, "input", x, "x");
    return [...inputs, ...positionalArguments(entries, "target", y, "y")];
  }

  private launchStep(x: Inputs, y: Inputs | undefined): Promise<Launched> {
    return this.launch("train", SCALARS, () => this.batch("train", x, y));
  }

  private async start(
    program: string, roles: readonly OutputRole[] | undefined, given: () => Argument[],
  ): Promise<{ results: Result[]; step: number }> {
    const { running, step } = await this.launch(program, roles, given);
    return { results: await running.results, step };
  }

  /** Starts a program when its turn comes. */
  private launch(
    program: string, roles: readonly OutputRole[] | undefined, given: () => Argument[],
  ): Promise<Launched> {
    return this.inOrder(async () => {
      const arguments_ = given();
      await this.settle(program, arguments_, roles);
      const { batchSize } = this.device;
      const begin = performance.now();
      const running = await this.executor.start(program, arguments_, roles);
      this.contest?.note(program, running.batch, performance.now() - begin);
      if (this.device.batchSize !== batchSize) this.notify({ kind: "device", device: this.device });
      if (program === "train") this.completed++;
      return { running, step: this.completed };
    });
  }

  /** Moves the state to the GPU if that has become the faster device for this call. */
  private async settle(
    program: string, given: readonly Argument[], roles: readonly OutputRole[] | undefined,
  ): Promise<void> {
    const decided = await this.contest?.decide(program, given, roles);
    if (!decided) return;
    const { comparison, winner } = decided;
    if (winner) {
      const loser = this.executor;
      winner.device.writeState(0, await loser.device.readState(this.wholeState()));
      winner.learningRates = loser.learningRates;
      this.executor = winner;
      loser.device.dispose();
    }
    this.notify({ kind: "device", device: this.device, comparison });
  }

  private inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work);
    this.tail = result.catch(() => undefined);
    return result;
  }

  private wholeState(): { offset: number; bytes: number } {
    return { offset: 0, bytes: this.manifest.state_bytes };
  }
}

function trainResult(results: readonly Result[], step: number): TrainResult {
  const { loss, metrics } = scalars(results);
  if (!Number.isFinite(loss)) throw instability(loss, step);
  return { loss, metrics, step };
}

function scalars(results: readonly Result[]): EvaluateResult {
  const metrics: Record<string, number> = {};
  for (const { output, values } of results) {
    if (output.role !== "loss") metrics[output.name] = values[0] ?? NaN;
  }
  return { loss: scalarOf(results, "loss") ?? NaN, metrics };
}

function byName(results: readonly Result[]): Record<string, Values> {
  return Object.fromEntries(results.map(({ output, values }) => [output.name, values]));
}

function instability(loss: number, step: number): NumericalInstabilityError {
  return new NumericalInstabilityError(`the loss of step ${String(step)} is ${String(loss)}`, {
    why: "training diverged: the weights are probably not finite any more",
    remedy: "load earlier weights and lower the learning rate, or clip the gradient norm",
    step,
  });
}

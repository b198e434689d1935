/**
 * From a bundle to a running executor: reads the files, tries the devices, replays the golden step.
 */

import { BACKEND_CHOICES, candidates, type BackendChoice, type Candidate } from "./backends.ts";
import { Bundle, type BundleSource } from "./bundle.ts";
import type { Device, DeviceInfo } from "./device.ts";
import {
  BackendError, HearthError, InvalidInputError, OutOfMemoryError, reasonOf,
} from "./errors.ts";
import { Executor } from "./executor.ts";
import { replayGolden } from "./golden.ts";
import { readSchedule, type RateTable } from "./learning-rate.ts";
import { CONSTANTS_FILE, isWeight, WEIGHTS_FILE } from "./manifest.ts";
import { DEFAULT_MEMORY_BYTES, requireBudget } from "./memory.ts";
import { ALIGNMENT_BYTES } from "./plan.ts";
import { decodeSafetensors, encodeSafetensors, type TensorFile } from "./safetensors.ts";
import type { Reopen } from "./session.ts";
import { initialState } from "./state.ts";
import { layoutOf, type WeightLayout } from "./weights.ts";

export interface EngineOptions {
  backend?: BackendChoice;
  /** Seed of all random numbers: an integer from 0 to 2^64 - 1. */
  seed?: number | bigint;
  /** Threads of the wasm backend; needs a cross-origin isolated page. */
  threads?: number;
  /** The largest batch to make room for at load; a larger one makes room later. */
  batchSize?: number;
  /**
   * What training may take, 256 MiB by default: a batch that needs more is an OutOfMemoryError.
   */
  memoryBytes?: number;
  /** Lets `auto` consider a GPU that is software: for tests. */
  softwareGpu?: boolean;
  /**
   * Which WebGPU kernels: "general", "measured" or the name of a variant; by default what suits
   * the device, measured once where it is hardware.
   */
  gpuKernels?: string;
  /** The most bytes of one GPU buffer, where that is less than the GPU gives. */
  gpuBufferBytes?: number;
}

export interface Opened {
  executor: Executor;
  /** Another one that gets ready in the background: WebGPU under `auto`. */
  challenger: Promise<Executor> | undefined;
  layout: WeightLayout;
  /** The learning rates that the bundle was compiled with. */
  schedule: RateTable | undefined;
  /** Opens a fresh device of a kind that repeats the recorded step; BackendError if none does. */
  reopen: Reopen;
}

/** Loads a bundle on the best device that repeats the recorded step correctly. */
export async function openExecutor(
  source: BundleSource, options: EngineOptions, warn: (message: string) => void,
): Promise<Opened> {
  checkOptions(options);
  const bundle = await Bundle.open(source);
  const parts = await readParts(bundle);
  const { gpuKernels: kernels, gpuBufferBytes: bufferBytes } = options;
  const find = (backend: BackendChoice) => candidates(
    bundle, backend, options.threads, options.softwareGpu, { kernels, bufferBytes });
  const { first, challengers } = await find(options.backend ?? "auto");
  const executor = await firstGood(bundle, parts, options, first, warn);
  return {
    executor,
    challenger: challengers.length > 0
      ? firstGood(bundle, parts, options, challengers, warn) : undefined,
    layout: layoutOf(bundle.manifest, parts.weights),
    schedule: readSchedule(bundle.manifest, parts.schedule),
    reopen: async (backend, batchSize) => {
      const { first: all } = await find(backend);
      const same = all.filter((candidate) => candidate.backend === backend);
      return firstGood(bundle, await readParts(bundle), { ...options, batchSize }, same, warn);
    },
  };
}

interface Parts {
  weights: TensorFile;
  constants: TensorFile | undefined;
  golden: TensorFile | undefined;
  schedule: TensorFile | undefined;
}

async function readParts(bundle: Bundle): Promise<Parts> {
  const { manifest } = bundle;
  const read = (file: string | undefined): Promise<TensorFile | undefined> =>
    file !== undefined && bundle.has(file) ? bundle.readTensors(file) : Promise.resolve(undefined);
  const needed = manifest.state.some(isWeight);
  const [weights, constants, golden, schedule] = await Promise.all([
    needed ? bundle.readTensors(WEIGHTS_FILE) : read(WEIGHTS_FILE), read(CONSTANTS_FILE),
    read(manifest.golden?.file), read(manifest.schedule?.file),
  ]);
  const none = (): TensorFile => decodeSafetensors(encodeSafetensors(new Map()), WEIGHTS_FILE);
  return { weights: weights ?? none(), constants, golden, schedule };
}

/** Tries the devices in order; the first that agrees with the recorded step is taken. */
async function firstGood(
  bundle: Bundle, parts: Parts, options: EngineOptions, tried: readonly Candidate[],
  warn: (message: string) => void,
): Promise<Executor> {
  const failures: HearthError[] = [];
  for (const candidate of tried) {
    try {
      const executor = await openCandidate(bundle, parts, options, candidate);
      failures.forEach((failure, i) => {
        warn(`${tried[i]?.name ?? ""} is not used: ${reasonOf(failure)}`);
      });
      warnOfThreads(executor.device.info, options, warn);
      return executor;
    } catch (error) {
      // Anything else, such as a truncated file, is no matter of the device.
      if (!(error instanceof BackendError || error instanceof OutOfMemoryError)) throw error;
      failures.push(error);
    }
  }
  const last = failures.at(-1);
  if (last instanceof OutOfMemoryError) throw last;
  const reasons = failures.map((failure, i) => `${tried[i]?.name ?? ""}: ${reasonOf(failure)}`);
  throw new BackendError("no backend runs this bundle", {
    why: reasons.join("; ") || "the bundle has no code for what this browser supports",
    remedy: "use a current browser, or compile the bundle for more backends",
  });
}

function warnOfThreads(
  { backend, threads }: DeviceInfo, options: EngineOptions, warn: (message: string) => void,
): void {
  const asked = options.threads ?? 1;
  if (backend !== "wasm" || asked <= threads) return;
  warn(`${String(threads)} of ${String(asked)} threads: more need a cross-origin isolated page \
(COOP and COEP headers) and a bundle with a threaded variant`);
}

async function openCandidate(
  bundle: Bundle, { weights, constants, golden }: Parts, options: EngineOptions,
  candidate: Candidate,
): Promise<Executor> {
  const { manifest } = bundle;
  const recorded = manifest.golden;
  let device: Device | undefined;
  try {
    const batch = Math.max(options.batchSize ?? 1, recorded?.batch ?? 1);
    const budgetBytes = options.memoryBytes ?? DEFAULT_MEMORY_BYTES;
    requireBudget(manifest, batch, candidate, budgetBytes);
    device = await candidate.open(batch);
    requireBudget(manifest, batch, device.info, budgetBytes); // now that the kernels are known
    const executor = new Executor(manifest, device, budgetBytes);
    if (golden && recorded) {
      device.writeState(0, initialState(manifest, weights, constants, BigInt(recorded.seed)));
      await replayGolden(executor, golden);
    }
    const seed = BigInt(options.seed ?? recorded?.seed ?? 0);
    device.writeState(0, initialState(manifest, weights, constants, seed));
    return executor;
  } catch (error) {
    device?.dispose();
    if (error instanceof HearthError) throw error;
    throw new BackendError("the device does not start", { why: reasonOf(error) });
  }
}

function checkOptions(
  {
    backend = "auto", seed = 0, threads = 1, batchSize = 1, memoryBytes = 1,
    gpuBufferBytes = ALIGNMENT_BYTES,
  }: EngineOptions,
) {
  const wrong = (name: string, value: unknown, expected: string): never => {
    throw new InvalidInputError(`option ${name} is ${String(value)}, expected ${expected}`);
  };
  const choices: readonly string[] = BACKEND_CHOICES;
  if (!choices.includes(backend)) wrong("backend", backend, choices.join(" or "));
  const good = typeof seed === "bigint" || Number.isSafeInteger(seed);
  if (!good || seed < 0 || BigInt(seed) >= 2n ** 64n) {
    wrong("seed", seed, "an integer from 0 to 2^64 - 1");
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > 64) {
    wrong("threads", threads, "an integer from 1 to 64");
  }
  if (typeof memoryBytes !== "number" || !(memoryBytes > 0)) {
    wrong("memoryBytes", memoryBytes, "a positive number");
  }
  if (!(gpuBufferBytes >= ALIGNMENT_BYTES)) {
    wrong("gpuBufferBytes", gpuBufferBytes, `a number from ${String(ALIGNMENT_BYTES)} up`);
  }
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    wrong("batchSize", batchSize, "an integer from 1 up");
  }
}

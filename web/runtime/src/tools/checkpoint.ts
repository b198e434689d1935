/**
 * A training run in one file (spec/manifest.md, "Checkpoint").
 *
 * Parameters and buffers keep their names, so every reader of safetensors finds the weights; what
 * else a run needs lies beside them under `optimizer/` and `hearth/`.
 */

import { bytesOf } from "../elements.ts";
import { BundleFormatError } from "../errors.ts";
import { isWeight, type Manifest, type Optimizer, type State } from "../manifest.ts";
import { parseOptimizer } from "../parse-manifest.ts";
import {
  decodeSafetensors, encodeSafetensors, looksLikeSafetensors, type Bytes, type Tensor,
  type TensorFile,
} from "../safetensors.ts";
import { readEntry, requireTensor, writeEntries, writeSeed } from "../state.ts";

const FORMAT = "hearth-checkpoint";
const VERSION = 1;
const SOURCE = "the checkpoint";
const OPTIMIZER = "optimizer/";
const RUN = "hearth/"; // what belongs to the run, not to the model; record-file.ts adds to it
const STEP = `${RUN}step`;
const SEED = `${RUN}seed`;
const UPDATES = `${RUN}updates`;

/** What of a checkpoint is not in the state image. */
export interface Progress {
  step: number;
  learningRates: number[];
}

/** The checkpoint of a run; `image` is the whole state region. */
export function writeCheckpoint(
  manifest: Manifest, image: Uint8Array, progress: Progress,
): Bytes {
  const optimizer = requireOptimizer(manifest);
  const tensors = new Map<string, Tensor>();
  for (const entry of savedEntries(manifest)) {
    tensors.set(fileName(entry), readEntry(image, entry));
  }
  tensors.set(STEP, integers([progress.step], []));
  const seed = manifest.state.find(({ role }) => role === "seed");
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const word = (i: number): number => seed ? view.getUint32(seed.offset + 4 * i, true) : 0;
  tensors.set(SEED, integers([word(0), word(1)], [2]));
  const groups = optimizer.groups.map((group, i) =>
    ({ ...group, learning_rate: progress.learningRates[i] ?? group.learning_rate }));
  const description = JSON.stringify({ ...optimizer, groups });
  const scaling = manifest.loss_scaling;
  const metadata = {
    format: FORMAT, version: String(VERSION), optimizer: description,
    ...(scaling && { loss_scaling: JSON.stringify(scaling) }),
  };
  return encodeSafetensors(tensors, metadata);
}

/** Writes a checkpoint into `image`, the whole state region: of no use if this raises. */
export function readCheckpoint(
  manifest: Manifest, bytes: Uint8Array, image: Uint8Array,
): Progress {
  if (!looksLikeSafetensors(bytes)) {
    throw new BundleFormatError(`${SOURCE} is no safetensors file`, {
      why: "it is truncated, or of another format",
    });
  }
  const file = decodeSafetensors(bytes, SOURCE);
  checkVersion(file);
  const ours = requireOptimizer(manifest);
  const theirs = description(file);
  if (!sameOptimizer(ours, theirs)) {
    throw new BundleFormatError(`${SOURCE} was made with another optimizer: ${theirs.class}`);
  }
  // A run without loss scaling may go on in a bundle with it.
  const isScaled = "loss_scaling" in file.metadata;
  const entries = savedEntries(manifest).filter(({ role }) => role !== "scaler" || isScaled);
  checkNames(file, entries);
  const tensors = new Map(entries.map((entry) =>
    [entry, requireTensor(file, entry, SOURCE, fileName(entry))] as const));
  const [step] = readIntegers(file, STEP, 1);
  const [low, high] = readIntegers(file, SEED, 2);
  writeEntries(image, tensors, SOURCE);
  writeSeed(image, manifest, BigInt(low ?? 0) | (BigInt(high ?? 0) << 32n));
  const counter = manifest.state.find(({ role }) => role === "step");
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (counter) view.setInt32(counter.offset, step ?? 0, true);
  const updates = manifest.state.find(({ name }) => name === UPDATES);
  if (updates && !isScaled) view.setInt32(updates.offset, step ?? 0, true);
  return { step: step ?? 0, learningRates: theirs.groups.map((group) => group.learning_rate) };
}

function savedEntries(manifest: Manifest): State[] {
  return manifest.state.filter((entry) =>
    isWeight(entry) || entry.role === "optimizer" || entry.role === "scaler");
}

function fileName(entry: State): string {
  return entry.role === "optimizer" ? OPTIMIZER + entry.name : entry.name;
}

function requireOptimizer({ optimizer }: Manifest): Optimizer {
  if (optimizer) return optimizer;
  throw new BundleFormatError("this bundle has no optimizer, so there is no run to save");
}

function sameOptimizer(ours: Optimizer, theirs: Optimizer): boolean {
  const groups = (optimizer: Optimizer): string =>
    JSON.stringify(optimizer.groups.map(({ parameters }) => [...parameters].sort()));
  return ours.class === theirs.class && groups(ours) === groups(theirs);
}

function checkVersion({ metadata }: TensorFile): void {
  if (metadata["format"] !== FORMAT) {
    throw new BundleFormatError(`${SOURCE} is not a Hearth checkpoint`, {
      remedy: "load plain weights with loadWeights",
    });
  }
  const version = Number(metadata["version"] ?? NaN);
  if (!Number.isInteger(version) || version < 1 || version > VERSION) {
    throw new BundleFormatError(
      `${SOURCE} has version ${String(metadata["version"])}, this runtime reads up to \
${String(VERSION)}`, { remedy: "use the hearth.js that wrote it" });
  }
}

function description({ metadata }: TensorFile): Optimizer {
  let value: unknown;
  try {
    value = JSON.parse(metadata["optimizer"] ?? "");
  } catch (error) {
    throw new BundleFormatError(`${SOURCE}: its optimizer is not JSON`, { why: String(error) });
  }
  return parseOptimizer(value, `${SOURCE}: optimizer`);
}

function checkNames(file: TensorFile, entries: readonly State[]): void {
  const known = new Set(entries.map(fileName));
  const surplus = [...file.tensors.keys()].filter((name) =>
    !known.has(name) && !name.startsWith(RUN));
  if (surplus.length === 0) return;
  throw new BundleFormatError(`${SOURCE} has ${surplus.join(", ")}, unknown to the model`, {
    remedy: "load a checkpoint of the model that this bundle was compiled from",
  });
}

function integers(values: readonly number[], shape: readonly number[]): Tensor {
  return { dtype: "I64", shape, data: bytesOf(BigInt64Array.from(values, BigInt)) };
}

/** Integers from 0 to 2^32 - 1. */
function readIntegers(file: TensorFile, name: string, count: number): number[] {
  const tensor = file.tensors.get(name);
  if (tensor?.dtype !== "I64" || tensor.data.length !== 8 * count) {
    throw new BundleFormatError(`${SOURCE}: ${name} must hold ${String(count)} int64`);
  }
  const values = Array.from(new BigInt64Array(tensor.data.slice().buffer), Number);
  if (!values.every((v) => v >= 0 && v < 2 ** 32)) {
    throw new BundleFormatError(`${SOURCE}: ${name} is out of range: ${values.join(", ")}`);
  }
  return values;
}

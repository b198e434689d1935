/**
 * The state region as a picture in host memory: what a device starts from.
 *
 * Entries are written by name and read by name; where each lies is the manifest's business.
 */

import { fromDevice, TENSOR_DTYPES, toDevice } from "./elements.ts";
import { BundleFormatError } from "./errors.ts";
import { areFinite } from "./finite.ts";
import { isWeight, stateElements, type Manifest, type State } from "./manifest.ts";
import type { Tensor, TensorFile } from "./safetensors.ts";

/** A consecutive part of the state region. */
export interface Span {
  offset: number;
  bytes: number;
}

/** The state before the first step: weights and constants from files, the rest zeros. */
export function initialState(
  manifest: Manifest, weights: TensorFile, constants: TensorFile | undefined, seed: bigint,
): Uint8Array {
  const image = new Uint8Array(manifest.state_bytes);
  for (const entry of manifest.state) {
    if (isWeight(entry)) {
      writeEntry(image, entry, requireTensor(weights, entry, "weights.safetensors"));
      continue;
    }
    const tensor = constants?.tensors.get(entry.name);
    if (tensor) writeEntry(image, entry, checkedTensor(entry, tensor, "constants.safetensors"));
  }
  writeSeed(image, manifest, seed);
  return image;
}

/** Writes the seed: word 0 is the low half of its 64 bits. */
export function writeSeed(image: Uint8Array, manifest: Manifest, seed: bigint): void {
  const entry = manifest.state.find(({ role }) => role === "seed");
  if (!entry) return;
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  view.setBigUint64(entry.offset, BigInt.asUintN(64, seed), true);
}

/** Writes a tensor of a file into the image; `start` is where the image begins. */
export function writeEntry(image: Uint8Array, entry: State, tensor: Tensor, start = 0): void {
  image.set(toDevice(entry.dtype, tensor.data, entry.name), entry.offset - start);
}

/** Writes tensors of a file; entries that share memory (tied weights) must agree. */
export function writeEntries(
  image: Uint8Array, tensors: ReadonlyMap<State, Tensor>, source: string, start = 0,
): void {
  for (const [entry, tensor] of tensors) writeEntry(image, entry, tensor, start);
  for (const [entry, tensor] of tensors) {
    const { data } = readEntry(image, entry, start);
    if (data.some((byte, i) => byte !== tensor.data[i])) {
      const name = JSON.stringify(entry.name);
      throw new BundleFormatError(
        `${source}: ${name} is tied to another weight, but their values differ`,
        { remedy: "load weights of the model that this bundle was compiled from" },
      );
    }
  }
}

/** An entry of the image as a tensor of a file; `start` is where the image begins. */
export function readEntry(image: Uint8Array, entry: State, start = 0): Tensor {
  const begin = entry.offset - start;
  const elements = image.slice(begin, begin + 4 * stateElements(entry));
  const data = fromDevice(entry.dtype, elements);
  return { dtype: TENSOR_DTYPES[entry.dtype], shape: entry.shape, data };
}

/** The smallest span that holds all entries. */
export function spanOf(entries: readonly State[]): Span {
  const begin = Math.min(...entries.map((s) => s.offset));
  const end = Math.max(...entries.map((s) => s.offset + 4 * stateElements(s)));
  return entries.length > 0 ? { offset: begin, bytes: end - begin } : { offset: 0, bytes: 0 };
}

/** From the start of the state to where only workspaces and constants follow: what is saved. */
export function savedSpan({ state }: Manifest): Span {
  const saved = state.filter(({ role }) => role !== "workspace" && role !== "constant");
  const { offset, bytes } = spanOf(saved);
  return { offset: 0, bytes: offset + bytes };
}

/** The trained parameters and their optimizer state that hold a value which is not finite. */
export function nonFiniteEntries(manifest: Manifest, image: Uint8Array): State[] {
  return manifest.state.filter((entry) => isTrained(entry)
    && !areFinite(valuesOf(image, entry)));
}

/** Whether training changes the entry, and it has float values. */
export function isTrained({ role, dtype, trainable }: State): boolean {
  if (dtype !== "float32") return false;
  return role === "optimizer" || (role === "parameter" && trainable !== false);
}

/** The float values of an entry in the whole state region. */
export function valuesOf(image: Uint8Array, entry: State): Float32Array {
  return new Float32Array(image.buffer, image.byteOffset + entry.offset, stateElements(entry));
}

/** The tensor of an entry under `name`; BundleFormatError if it is missing or of another form. */
export function requireTensor(
  file: TensorFile, entry: State, source: string, name = entry.name,
): Tensor {
  const tensor = file.tensors.get(name);
  if (!tensor) throw new BundleFormatError(`${source} has no tensor ${JSON.stringify(name)}`);
  return checkedTensor(entry, tensor, source);
}

/** The tensor, if it has the dtype and shape of the entry. */
export function checkedTensor(entry: State, tensor: Tensor, source: string): Tensor {
  const wanted = `${TENSOR_DTYPES[entry.dtype]} [${entry.shape.join(", ")}]`;
  const found = `${tensor.dtype} [${tensor.shape.join(", ")}]`;
  if (wanted !== found) {
    throw new BundleFormatError(`${source}: ${entry.name} is ${found}, the model has ${wanted}`, {
      remedy: "load weights of the model that this bundle was compiled from",
    });
  }
  return tensor;
}

/** What the state counts as completed: a bundle may continue a run of PyTorch's. */
export async function completedSteps(
  manifest: Manifest, device: { readState(span: Span): Promise<Uint8Array> },
): Promise<number> {
  const counter = manifest.state.find(({ role }) => role === "step");
  if (!counter) return 0;
  const { buffer, byteOffset } = await device.readState(spanOf([counter]));
  return new DataView(buffer, byteOffset).getInt32(0, true);
}

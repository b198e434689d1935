/**
 * The index of a kept data set: a safetensors file with the checksum of every sample.
 *
 * Files: NAME.dataset is the index, NAME.VERSION.0.samples, NAME.VERSION.1.samples, … hold the
 * samples.  A version is one writing of the data set.
 */

import {
  decodeSafetensors, encodeName, encodeSafetensors, StorageError, type Tensor,
} from "../index.ts";
import { crc32 } from "./crc32.ts";
import type { Normalisation } from "./pixels.ts";
import { isSampleArray, type SampleArray } from "./records.ts";

export const INDEX_SUFFIX = ".dataset";
const FORMAT = 1;

export interface DatasetIndex {
  readonly version: string;
  /** Samples of each file; the last has what is left. */
  readonly fileSamples: number;
  readonly arrays: readonly SampleArray[];
  /** Of bytes that are read as float32. */
  readonly normalisation?: Normalisation | undefined;
  readonly about: Readonly<Record<string, unknown>>;
  /** CRC-32 of every sample. */
  readonly crcs: Uint32Array;
  readonly labels?: Int32Array | undefined;
}

export function indexFile(name: string): string {
  return encodeName(name, "a data set") + INDEX_SUFFIX;
}

export function samplesFile(name: string, version: string, number: number): string {
  return `${encodeName(name, "a data set")}.${version}.${String(number)}.samples`;
}

/** Of which data set and version a file holds samples. */
export function whereSamples(file: string): { name: string; version: string } | undefined {
  const [, name, version] = /^(.+)\.([0-9a-z]+)\.\d+\.samples$/.exec(file) ?? [];
  if (name === undefined || version === undefined) return undefined;
  return { name: decodeURIComponent(name), version };
}

export function encodeIndex({ crcs, labels, ...rest }: DatasetIndex): Uint8Array {
  const tensors = new Map<string, Tensor>([["crc32", tensor("U32", crcs)]]);
  if (labels) tensors.set("labels", tensor("I32", labels));
  const dataset = JSON.stringify({ format: FORMAT, ...rest });
  const checksum = String(checksumOf(dataset, tensors));
  return encodeSafetensors(tensors, { dataset, checksum });
}

/** Raises StorageError for what is damaged, or written by a newer version. */
export function decodeIndex(bytes: Uint8Array, source: string): DatasetIndex {
  let damage = "it is damaged";
  try {
    const { tensors, metadata: { dataset = "", checksum } } = decodeSafetensors(bytes, source);
    if (String(checksumOf(dataset, tensors)) === checksum) {
      const { format, ...rest } = JSON.parse(dataset) as { format: unknown } & DatasetIndex;
      const crcs = tensors.get("crc32");
      const labels = tensors.get("labels");
      if (format !== FORMAT) damage = `its format is ${String(format)}, not ${String(FORMAT)}`;
      else if (crcs && rest.arrays.every(isSampleArray)) {
        return {
          ...rest, crcs: new Uint32Array(crcs.data.slice().buffer),
          labels: labels && new Int32Array(labels.data.slice().buffer),
        };
      }
    }
  } catch {
    // The message below says it.
  }
  throw new StorageError(`${source} cannot be read`, {
    why: damage, remedy: "load the page anew if it is newer, else remove it and keep it again",
  });
}

function tensor(dtype: "U32" | "I32", { buffer, byteOffset, byteLength, length }:
  Uint32Array | Int32Array): Tensor {
  return { dtype, shape: [length], data: new Uint8Array(buffer, byteOffset, byteLength) };
}

function checksumOf(dataset: string, tensors: ReadonlyMap<string, Tensor>): number {
  return [...tensors.values()].reduce(
    (before, { data }) => crc32(data, before), crc32(new TextEncoder().encode(dataset)));
}

/**
 * Weight files: safetensors and the JSON form, both directions (spec/manifest.md, "JSON weights").
 *
 * An export of untouched weights equals the original file byte for byte, because the export keeps
 * the head of that file.  Optimizer state belongs to checkpoints.
 */

import { bytesOf, TENSOR_DTYPES } from "./elements.ts";
import { BundleFormatError, NumericalInstabilityError } from "./errors.ts";
import { isWeight, stateElements, type Manifest, type State } from "./manifest.ts";
import {
  concatenate, decodeSafetensors, looksLikeSafetensors, type Bytes, type Tensor, type TensorFile,
} from "./safetensors.ts";
import { checkedTensor, readEntry, writeEntries } from "./state.ts";
import { plainTensors } from "./stored-weights.ts";

const SOURCE = "the weight file";

/** Names in the file → names in the model. */
export type NameMap = Readonly<Record<string, string>>;

/** How the original weight file was laid out, without its values. */
export interface WeightLayout {
  head: Uint8Array;
  /** In the order of the file. */
  entries: readonly State[];
}

/** The layout of the bundle's weight file; BundleFormatError if it holds anything else. */
export function layoutOf(manifest: Manifest, file: TensorFile): WeightLayout {
  const known = new Map(manifest.state.filter(isWeight).map((s) => [s.name, s]));
  const inFileOrder = [...file.tensors].sort(
    ([, a], [, b]) => a.data.byteOffset - b.data.byteOffset || a.data.length - b.data.length,
  );
  const entries = inFileOrder.map(([name]) =>
    known.get(name) ?? fail(`the model has no weight ${quote(name)}`));
  return { head: file.head.slice(), entries };
}

/** The file with the weights of `image`, in the layout of the original file. */
export function writeSafetensors(layout: WeightLayout, image: Uint8Array, start: number): Bytes {
  const parts = layout.entries.map((entry) => readEntry(image, entry, start).data);
  return concatenate([layout.head, ...parts]);
}

/** The JSON weight form as UTF-8. */
export function writeJson(manifest: Manifest, image: Uint8Array, start: number): Bytes {
  const entries = manifest.state.filter(isWeight);
  const distinct = new Set(entries.map(({ name }) => flatKey(name))).size === entries.length;
  const weights: string[] = [];
  const shapes: Record<string, readonly number[]> = {};
  for (const entry of entries) {
    const key = distinct ? flatKey(entry.name) : entry.name;
    weights.push(`${JSON.stringify(key)}:[${jsonNumbers(entry, readEntry(image, entry, start))}]`);
    shapes[key] = entry.shape;
  }
  const text = [
    `{"model_type":${JSON.stringify(manifest.model)}`,
    `"framework":"hearth"`,
    `"weights":{${weights.join(",")}}`,
    `"shapes":${JSON.stringify(shapes)}`,
    `"metadata":${JSON.stringify({ compiler: manifest.compiler })}}`,
  ];
  return new TextEncoder().encode(text.join(","));
}

/** One checked tensor per weight of the model, from a file of either form. */
export function readWeights(
  manifest: Manifest, bytes: Uint8Array, names: NameMap = {},
): Map<State, Tensor> {
  const entries = manifest.state.filter(isWeight);
  if (looksLikeSafetensors(bytes)) {
    const tensors = plainTensors(decodeSafetensors(bytes, SOURCE), SOURCE);
    const same = (key: string, name: string): boolean => key === name;
    const keys = match(entries, [...tensors.keys()], names, same);
    return new Map([...keys].map(([entry, key]) =>
      [entry, checkedTensor(entry, tensors.get(key) as Tensor, SOURCE)]));
  }
  const { weights, shapes } = parseJsonWeights(bytes, SOURCE);
  const similar = (key: string, name: string): boolean => key === name || key === flatKey(name);
  const keys = match(entries, Object.keys(weights), names, similar);
  return new Map([...keys].map(([entry, key]) =>
    [entry, jsonTensor(entry, key, weights[key], shapes[key])]));
}

/** Writes tensors into the image; entries that share memory (tied weights) must agree. */
export function writeWeights(
  image: Uint8Array, start: number, tensors: ReadonlyMap<State, Tensor>,
): void {
  writeEntries(image, tensors, SOURCE, start);
}

/** Pairs each weight of the model with a key of the file; every key must find its place. */
function match(
  entries: readonly State[], keys: readonly string[], names: NameMap,
  means: (key: string, name: string) => boolean,
): Map<State, string> {
  checkNameMap(entries, keys, names);
  const candidates = candidateFinder(entries, keys, names, means);
  const found = new Map<State, string>();
  const surplus: string[] = [];
  for (const key of keys) {
    const [entry, ...others] = candidates(key);
    if (!entry) surplus.push(key);
    else if (others.length > 0) {
      fail(`${quote(key)} may mean ${[entry, ...others].map((s) => quote(s.name)).join(" or ")}`);
    } else if (found.has(entry)) {
      fail(`both ${quote(found.get(entry))} and ${quote(key)} mean ${quote(entry.name)}`);
    } else found.set(entry, key);
  }
  const missing = entries.filter((s) => !found.has(s)).map((s) => s.name);
  if (missing.length > 0) fail(`the file lacks ${missing.map(quote).join(", ")}`);
  if (surplus.length > 0) fail(`the model has no weight ${surplus.map(quote).join(", ")}`);
  return found;
}

function checkNameMap(
  entries: readonly State[], keys: readonly string[], names: NameMap,
): void {
  for (const [key, name] of Object.entries(names)) {
    if (!keys.includes(key)) fail(`the name map mentions ${quote(key)}, the file has no such key`);
    if (!entries.some((s) => s.name === name)) {
      fail(`the name map mentions ${quote(name)}, the model has no such weight`);
    }
  }
}

/** The weights that a key may mean: the mapped one, else the same names, else similar ones. */
function candidateFinder(
  entries: readonly State[], keys: readonly string[], names: NameMap,
  means: (key: string, name: string) => boolean,
): (key: string) => State[] {
  const mapped = new Set(Object.values(names));
  const rest = keys.filter((key) => !Object.hasOwn(names, key));
  const exact = rest.every((key) => entries.some((s) => s.name === key));
  return (key) => {
    if (Object.hasOwn(names, key)) return entries.filter((s) => s.name === names[key]);
    if (exact) return entries.filter((s) => s.name === key);
    return entries.filter((s) => !mapped.has(s.name) && means(key, s.name));
  };
}

function flatKey(name: string): string {
  return name.replaceAll(".", "_");
}

interface JsonWeights {
  weights: Record<string, unknown>;
  shapes: Record<string, unknown>;
}

function parseJsonWeights(bytes: Uint8Array, source: string): JsonWeights {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new BundleFormatError(`${source} is neither safetensors nor JSON`, {
      why: "it is truncated, or of another format",
      remedy: "save weights with safetensors.torch.save_file(model.state_dict(), path)",
    });
  }
  const { weights, shapes = {} } = (value ?? {}) as { weights?: unknown; shapes?: unknown };
  if (!isRecord(weights)) return fail('the JSON has no object "weights"');
  if (!isRecord(shapes)) return fail('"shapes" of the JSON is no object');
  return { weights, shapes };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const MAKERS = {
  float32: (values: number[]) => new Float32Array(values),
  int32: (values: number[]) => new Int32Array(values),
  uint32: (values: number[]) => new Uint32Array(values),
  bool: (values: number[]) => new Uint8Array(values),
  int64: (values: number[]) => BigInt64Array.from(values, (v) => BigInt(v)),
} as const;

function jsonTensor(entry: State, key: string, value: unknown, shape: unknown): Tensor {
  if (!Array.isArray(value)) return fail(`${quote(key)} is not a list of numbers`);
  if (shape !== undefined && quote(shape) !== quote(entry.shape)) {
    fail(`${quote(key)} has shape ${quote(shape)}, the model has ${quote(entry.shape)}`);
  }
  const flat = value as unknown[];
  const wanted = stateElements(entry);
  if (flat.length !== wanted) {
    fail(`${quote(key)} has ${String(flat.length)} numbers, ${quote(entry.name)} of shape \
[${entry.shape.join(", ")}] needs ${String(wanted)}`);
  }
  const numbers = flat.map((v) => (typeof v === "boolean" ? Number(v) : v));
  const good = entry.dtype === "float32" ? Number.isFinite : Number.isSafeInteger;
  const bad = numbers.findIndex((v) => !good(v));
  if (bad >= 0) {
    fail(`${quote(key)}[${String(bad)}] is ${String(numbers[bad])}, not a ${entry.dtype} number`);
  }
  const data = bytesOf(MAKERS[entry.dtype](numbers as number[]));
  return { dtype: TENSOR_DTYPES[entry.dtype], shape: entry.shape, data };
}

/** The shortest decimals that give the same float32 again are at most nine digits long. */
function jsonNumbers(entry: State, { data }: Tensor): string {
  const copy = data.slice().buffer;
  switch (entry.dtype) {
    case "float32":
      return Array.from(new Float32Array(copy), (v) => jsonFloat(v, entry.name)).join(",");
    case "int64": return new BigInt64Array(copy).join(",");
    case "int32": return new Int32Array(copy).join(",");
    case "uint32": return new Uint32Array(copy).join(",");
    case "bool": return Array.from(new Uint8Array(copy), (v) => String(v !== 0)).join(",");
  }
}

function jsonFloat(value: number, name: string): string {
  if (!Number.isFinite(value)) {
    throw new NumericalInstabilityError(`${name} holds ${String(value)}, JSON has no such number`, {
      why: "training diverged",
      remedy: "export safetensors, or load earlier weights and lower the learning rate",
    });
  }
  return Object.is(value, -0) ? "-0.0" : String(Number(value.toPrecision(9)));
}

function quote(value: unknown): string {
  return JSON.stringify(value);
}

function fail(problem: string): never {
  throw new BundleFormatError(`weights: ${problem}`, {
    remedy: "load weights of this model, or give a map from the file's names to the model's",
  });
}

/**
 * A checked Manifest from a JSON value.
 *
 * Each reader returns its value or raises BundleFormatError with the path of the bad field.  What
 * types cannot say (indices, offsets, names) is checked by `check-manifest.ts`.
 */

import type { Extent } from "./dims.ts";
import { BundleFormatError } from "./errors.ts";
import {
  ACCURACIES, DEVICE_DTYPES, FILE_DTYPES, FORMAT, HALVES, INPUT_ROLES, INTERVALS, OUTPUT_ROLES,
  STATE_ROLES, VERSION, WASM_FEATURES, WEBGPU_FEATURES, type Manifest, type Optimizer,
} from "./manifest.ts";
import { checkManifest } from "./check-manifest.ts";

type Reader<T> = (value: unknown, path: string) => T;
type Readers = Record<string, Reader<unknown>>;
type Fields<R extends Readers> = { [K in keyof R]: ReturnType<R[K]> };

/** The manifest in the bytes of `manifest.json`; `where` names the file for messages. */
export function parseManifest(bytes: Uint8Array, where = "manifest.json"): Manifest {
  const value = parseJson(bytes, where);
  checkVersion(value, where);
  const result = manifest(value, where);
  checkManifest(result);
  return result;
}

/** The optimizer object of a checkpoint's metadata. */
export function parseOptimizer(value: unknown, where: string): Optimizer {
  return optimizer(value, where);
}

function parseJson(bytes: Uint8Array, where: string): unknown {
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const start = text.trimStart().slice(0, 40);
    const page = start.startsWith("<");
    throw new BundleFormatError(`${where} is not JSON: it begins with ${JSON.stringify(start)}`, {
      why: page ? "the server answered with a web page" : String(error),
      remedy: "load the folder that `hearth compile` wrote",
    });
  }
}

function checkVersion(value: unknown, where: string): void {
  if (!isRecord(value) || value["format"] !== FORMAT) {
    throw new BundleFormatError(
      `${where}: this is not a Hearth bundle (no "format": "${FORMAT}")`,
      { remedy: "load the folder that `hearth compile` wrote" },
    );
  }
  const version = integer(value["version"], `${where}.version`);
  if (version < 1) refuse(`${where}.version`, "a positive integer", version);
  if (version > VERSION) {
    throw new BundleFormatError(
      `${where}.version is ${String(version)}, this runtime reads up to ${String(VERSION)}`,
      {
        why: "the bundle was written by a newer Hearth",
        remedy: "use the hearth.js that came with the bundle",
      },
    );
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuse(path: string, expected: string, value: unknown): never {
  const shown = JSON.stringify(value) as string | undefined ?? "nothing";
  const short = shown.length > 60 ? `${shown.slice(0, 57)}...` : shown;
  throw new BundleFormatError(`${path}: expected ${expected}, found ${short}`);
}

const text: Reader<string> = (value, path) =>
  typeof value === "string" ? value : refuse(path, "a string", value);
const flag: Reader<boolean> = (value, path) =>
  typeof value === "boolean" ? value : refuse(path, "true or false", value);
const finite: Reader<number> = (value, path) =>
  typeof value === "number" && Number.isFinite(value)
    ? value : refuse(path, "a finite number", value);
const integer: Reader<number> = (value, path) =>
  Number.isSafeInteger(value) ? (value as number) : refuse(path, "an integer", value);
const count: Reader<number> = (value, path) =>
  integer(value, path) >= 0 ? (value as number) : refuse(path, "an integer from 0 up", value);
const positive: Reader<number> = (value, path) =>
  integer(value, path) >= 1 ? (value as number) : refuse(path, "an integer from 1 up", value);

function list<T>(item: Reader<T>): Reader<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) return refuse(path, "a list", value);
    return value.map((v, i) => item(v, `${path}[${String(i)}]`));
  };
}

function record<T>(item: Reader<T>): Reader<Record<string, T>> {
  return (value, path) => {
    if (!isRecord(value)) return refuse(path, "an object", value);
    const entries = Object.entries(value).map(([k, v]) => [k, item(v, `${path}.${k}`)]);
    return Object.fromEntries(entries) as Record<string, T>;
  };
}

function oneOf<T extends string>(choices: readonly T[]): Reader<T> {
  return (value, path) => {
    const choice = choices.find((c) => c === value);
    return choice ?? refuse(path, `one of ${choices.join(", ")}`, value);
  };
}

function object<R extends Readers, O extends Readers>(
  required: R, optional = {} as O,
): Reader<Fields<R> & Partial<Fields<O>>> {
  const readers: Readers = { ...required, ...optional };
  return (value, path) => {
    if (!isRecord(value)) return refuse(path, "an object", value);
    for (const key of Object.keys(required)) {
      if (!(key in value)) throw new BundleFormatError(`${path}.${key} is missing`);
    }
    const result: Record<string, unknown> = {};
    for (const [key, field] of Object.entries(value)) {
      const reader = Object.hasOwn(readers, key) ? readers[key] : undefined;
      if (!reader) return refuse(`${path}.${key}`, "no such field", field);
      result[key] = reader(field, `${path}.${key}`);
    }
    return result as Fields<R> & Partial<Fields<O>>;
  };
}

const extent: Reader<Extent> = (value, path) => {
  if (Array.isArray(value) && value.length > 0) return list(integer)(value, path);
  return Array.isArray(value)
    ? refuse(path, "an integer or a list of polynomial coefficients", value)
    : integer(value, path);
};

const pair: Reader<[number, number]> = (value, path) => {
  const [low, high, ...rest] = list(integer)(value, path);
  if (low === undefined || high === undefined || rest.length > 0) {
    return refuse(path, "a list of 2", value);
  }
  return [low, high];
};

const state = object(
  {
    name: text, role: oneOf(STATE_ROLES), dtype: oneOf(FILE_DTYPES), shape: list(count),
    offset: count,
  },
  { trainable: flag, persistent: flag, key: text, parameter: text },
);
const buffer = object(
  { dtype: oneOf(DEVICE_DTYPES), shape: list(extent) },
  { offset: count, slot: count, half: flag },
);
const workgroups = list(object({ extent, per: positive }));
const kernel = object({ name: text, workgroups }, { origin: text });
const modules = {
  file: text, features: list(oneOf(WEBGPU_FEATURES)), workgroups: record(workgroups),
};
const wgsl = object({ file: text }, {
  variants: list(object({ name: text, software: flag, ...modules }, {
    finish: record(object({ workgroups, scratch_bytes: extent })),
  })),
  halves: object(modules),
});
const input = object(
  {
    name: text, role: oneOf(INPUT_ROLES), dtype: oneOf(FILE_DTYPES), shape: list(extent),
    buffer: count,
  },
  { range: pair, except: integer },
);
const output = object({
  name: text, role: oneOf(OUTPUT_ROLES), dtype: oneOf(FILE_DTYPES), shape: list(extent),
  buffer: count,
});
const program = object(
  {
    inputs: list(input), outputs: list(output), slots: list(list(extent)),
    steps: list(object({ kernel: count, buffers: list(count) })),
  },
  { above: list(list(count)), half_slots: list(list(extent)) },
);
const optimizer = object({
  class: text,
  groups: list(object({
    learning_rate: finite, parameters: list(text), options: record((value) => value),
  })),
});
const wasm = object({
  variants: list(object({ file: text, features: list(oneOf(WASM_FEATURES)) })),
  scratch_bytes: count,
});

const manifest: Reader<Manifest> = object(
  {
    format: oneOf<typeof FORMAT>([FORMAT]), version: positive, compiler: text, model: text,
    files: record(object({ bytes: count, sha256: text })),
    state: list(state), state_bytes: count, buffers: list(buffer), kernels: list(kernel),
    programs: record(program), random: count,
  },
  {
    optimizer, schedule: object({ file: text, interval: oneOf(INTERVALS) }), wasm, wgsl,
    golden: object(
      { file: text, batch: positive, seed: count },
      { tolerance: finite, tolerances: record(finite) },
    ),
    accuracy: oneOf(ACCURACIES), precision: oneOf(HALVES),
    loss_scaling: object({
      growth_factor: finite, backoff_factor: finite, growth_interval: positive,
    }),
  },
);

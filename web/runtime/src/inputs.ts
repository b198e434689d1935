/**
 * Checks a batch against a program before any device sees it.
 *
 * The same checks as `hearth/runtime/inputs.py`: number of arguments, dtype, length, batch size,
 * index range and finiteness.  Arrays are flat here, so the batch size follows from the length.
 */

import { elements, formatShape, isStatic, shapeAt, solveBatch } from "./dims.ts";
import { bytesOf } from "./elements.ts";
import { InvalidInputError } from "./errors.ts";
import { areFinite } from "./finite.ts";
import type { Input, InputRole, Program } from "./manifest.ts";

/** Flat, row-major data of one tensor; a batch of samples lies one after another. */
export type InputArray =
  | Float32Array | Float64Array | Int8Array | Uint8Array | Uint8ClampedArray | Int16Array
  | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array
  | readonly number[] | readonly boolean[];

/** One tensor, or a list of tensors for a model with several. */
export type Inputs = InputArray | readonly InputArray[];

/** Data for one input of a program; `label` is what the caller knows it by. */
export interface Argument {
  entry: Input;
  label: string;
  data: InputArray;
}

/** Device elements for one buffer. */
export interface Feed {
  buffer: number;
  data: Uint8Array;
}

export interface CheckedBatch {
  batch: number;
  feeds: Feed[];
}

/** The arguments for all inputs of a role, in order; `label` is the name of the parameter. */
export function positionalArguments(
  program: Program, role: InputRole, given: Inputs | undefined, label: string,
): Argument[] {
  const entries = program.inputs.filter((input) => input.role === role);
  const list = given === undefined ? [] : asList(given, label);
  if (list.length !== entries.length) {
    const names = entries.map(({ name }) => name).join(", ") || "none";
    throw new InvalidInputError(
      `${label}: ${String(list.length)} arrays given, the program takes \
${String(entries.length)} (${names})`,
      { remedy: "give one flat typed array per input, all samples one after another" },
    );
  }
  return entries.map((entry, i) => ({
    entry, label: list.length > 1 ? `${label}[${String(i)}]` : label, data: list[i] ?? [],
  }));
}

/** The arguments for the inputs of a program by name; hyper-parameters may be left out. */
export function namedArguments(
  program: Program, given: Readonly<Record<string, InputArray>>,
): Argument[] {
  const names = program.inputs.map(({ name }) => name);
  const known = names.join(", ") || "none";
  for (const name of Object.keys(given)) {
    if (!names.includes(name)) {
      throw new InvalidInputError(`the program has no input "${name}"; it has ${known}`);
    }
  }
  return program.inputs.flatMap((entry) => {
    const data = Object.hasOwn(given, entry.name) ? given[entry.name] : undefined;
    if (data === undefined && entry.role === "hyper") return [];
    if (data === undefined) {
      throw new InvalidInputError(`the input "${entry.name}" is missing; the program has ${known}`);
    }
    return [{ entry, label: entry.name, data: checkedArray(data, entry.name) }];
  });
}

/** One argument as a list of arrays; raises InvalidInputError for anything else. */
export function asList(given: unknown, label: string): InputArray[] {
  if (Array.isArray(given) && given.length > 0 && typeof given[0] === "object") {
    return given.map((item, i) => checkedArray(item, `${label}[${String(i)}]`));
  }
  return [checkedArray(given, label)];
}

function checkedArray(value: unknown, label: string): InputArray {
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
    return value as InputArray;
  }
  throw new InvalidInputError(`${label} is ${typeName(value)}, expected a typed array`, {
    remedy: "give for example a Float32Array with all samples one after another",
  });
}

/**
 * The batch size and device elements of a batch; InvalidInputError names the argument.
 *
 * `finite` is asked of the data of a model; functions that train nothing take NaN and infinity too.
 */
export function checkBatch(given: readonly Argument[], finite = true): CheckedBatch {
  let batch = 0;
  let first = "";
  for (const { entry, label, data } of given) {
    const own = batchOf(entry, label, data.length);
    if (own === 0) continue;
    if (batch > 0 && own !== batch) {
      throw new InvalidInputError(
        `${label} has ${String(own)} samples, ${first} has ${String(batch)}`,
        { remedy: "give as many targets as inputs" },
      );
    }
    if (batch === 0) [batch, first] = [own, label];
  }
  batch ||= 1;
  const feeds = given.map((argument) => ({
    buffer: argument.entry.buffer, data: deviceElements(argument, batch, finite),
  }));
  return { batch, feeds };
}

/** Raises InvalidInputError with the argument's name for all but whole numbers from `least`. */
export function requireWhole(value: number, name: string, least: number): void {
  if (Number.isInteger(value) && value >= least) return;
  throw new InvalidInputError(
    `${name} is ${String(value)}, expected a whole number from ${String(least)}`);
}

/** How many samples the inputs of a batch hold; 0 where their lengths do not say. */
export function sampleCount(program: Program | undefined, x: Inputs): number {
  const inputs = program?.inputs.filter(({ role }) => role === "input") ?? [];
  const counts = asList(x, "x").map((data, i) => {
    const entry = inputs[i];
    return entry ? batchOf(entry, "x", data.length) : 0;
  });
  return Math.max(0, ...counts);
}

/** The batch size that the length of an array means; 0 where the shape does not depend on it. */
function batchOf(entry: Input, label: string, length: number): number {
  const { shape } = entry;
  if (shape.every(isStatic)) {
    const wanted = elements(shape, 1);
    if (length !== wanted) {
      throw new InvalidInputError(`${label} has ${String(length)} values, the program takes \
${String(wanted)}: ${formatShape(shape)}`);
    }
    return 0;
  }
  const batch = solveBatch((b) => elements(shape, b), length);
  if (batch > 0) return batch;
  const sample = elements(shape, 2) - elements(shape, 1);
  const form = `the model takes ${formatShape(shape)} with batch size B`;
  if (length === 0) {
    throw new InvalidInputError(`${label} is empty, ${form}`, {
      why: "a batch has at least one sample",
    });
  }
  throw new InvalidInputError(
    `${label} has ${String(length)} values, which is no multiple of the ${String(sample)} values \
of one sample; ${form}`,
  );
}

function deviceElements(argument: Argument, batch: number, finite: boolean): Uint8Array {
  const { dtype } = argument.entry;
  if (dtype === "float32") return bytesOf(floats(argument, batch, finite));
  const words = dtype === "uint32" ? uint32s(argument, batch) : int32s(argument, batch);
  checkRange(argument, words, batch);
  return bytesOf(words);
}

function floats(argument: Argument, batch: number, finite: boolean): Float32Array {
  const { data, entry, label } = argument;
  let result: Float32Array;
  if (data instanceof Float32Array) result = data;
  else if (data instanceof Float64Array) result = Float32Array.from(data);
  else if (Array.isArray(data)) result = Float32Array.from(numbers(argument, batch));
  else {
    throw new InvalidInputError(`${label} is ${typeName(data)}, the model takes float32`, {
      remedy: "scale it as in training, then give a Float32Array",
    });
  }
  if (!finite || areFinite(result)) return result;
  const index = result.findIndex((v) => !Number.isFinite(v));
  throw new InvalidInputError(
    `${label}${position(entry, index, batch)} is ${String(data[index])}, expected a finite number`,
    { why: "one value that is not finite makes every weight NaN" },
  );
}

function int32s(argument: Argument, batch: number): Int32Array {
  const { data, entry, label } = argument;
  if (data instanceof Int32Array) return data;
  const result = Int32Array.from(integers(argument, batch), Number);
  const wide = data instanceof BigInt64Array || data instanceof BigUint64Array
    || data instanceof Uint32Array || Array.isArray(data);
  const bad = wide ? result.findIndex((v, i) => v !== Number(data[i])) : -1;
  if (bad < 0) return result;
  throw new InvalidInputError(
    `${label}${position(entry, bad, batch)} is ${String(data[bad])}, expected a 32-bit integer`,
  );
}

function uint32s(argument: Argument, batch: number): Uint32Array {
  const { data, entry, label } = argument;
  if (data instanceof Uint32Array) return data;
  const result = Uint32Array.from(integers(argument, batch), Number);
  const bad = result.findIndex((v, i) => v !== Number(data[i]));
  if (bad < 0) return result;
  throw new InvalidInputError(
    `${label}${position(entry, bad, batch)} is ${String(data[bad])}, expected an integer from 0 \
to 4294967295`,
  );
}

/** The data, if it is made of integers. */
function integers(argument: Argument, batch: number): ArrayLike<number | bigint> {
  const { data, entry, label } = argument;
  if (data instanceof Float32Array || data instanceof Float64Array) {
    throw new InvalidInputError(`${label} is ${typeName(data)}, the model takes ${entry.dtype}`, {
      remedy: "give an Int32Array, a Uint8Array or a BigInt64Array",
    });
  }
  return Array.isArray(data) ? numbers(argument, batch) : (data as ArrayLike<number | bigint>);
}

/** The values of a plain array, each checked to be a number (or a boolean). */
function numbers({ data, entry, label }: Argument, batch: number): number[] {
  return Array.from(data as ArrayLike<unknown>, (value, i) => {
    if (typeof value === "number") return value;
    if (typeof value === "boolean") return Number(value);
    throw new InvalidInputError(
      `${label}${position(entry, i, batch)} is ${typeName(value)}, expected a number`,
    );
  });
}

function checkRange({ entry, label }: Argument, words: Int32Array | Uint32Array, batch: number) {
  const range = entry.range ?? (entry.dtype === "bool" ? [0, 2] as const : undefined);
  if (!range) return;
  const [low, high] = range;
  const { except } = entry;
  for (let i = 0; i < words.length; i++) {
    const value = words[i] ?? low;
    if ((value >= low && value < high) || value === except) continue;
    const extra = except === undefined ? "" : ` or ${String(except)}`;
    throw new InvalidInputError(
      `${label}${position(entry, i, batch)} is ${String(value)}, allowed are ${String(low)} to \
${String(high - 1)}${extra}`,
      { why: "the value is an index: a class label or a token" },
    );
  }
}

/** `[3, 17]`: where the flat index lies in the tensor. */
function position({ shape }: Input, index: number, batch: number): string {
  const place: number[] = [];
  for (const extent of shapeAt(shape, batch).reverse()) {
    place.unshift(index % extent);
    index = Math.floor(index / extent);
  }
  return `[${place.join(", ")}]`;
}

function typeName(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  return Array.isArray(value) ? "a list" : (Object.getPrototypeOf(value) as {
    constructor?: { name: string };
  } | null)?.constructor?.name ?? "an object";
}

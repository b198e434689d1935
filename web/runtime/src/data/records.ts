/** Samples as bytes: the values of all arrays of a sample one after another, little-endian. */

import { asList, InvalidInputError, type Batch, type InputArray, type Inputs } from "../index.ts";

type TypedArray = Exclude<InputArray, readonly unknown[]>;

const TYPES = {
  Float32Array, Float64Array, Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array,
  Int32Array, Uint32Array, BigInt64Array, BigUint64Array,
} as const;

/** One array of every sample. */
export interface SampleArray {
  readonly role: "x" | "y";
  readonly type: keyof typeof TYPES;
  /** Values of a sample. */
  readonly length: number;
}

/** What the samples of a batch are made of.  Raises InvalidInputError. */
export function formOf({ x, y }: Batch, samples: number): SampleArray[] {
  return (["x", "y"] as const).flatMap((role) => {
    const given = role === "x" ? x : y;
    return given === undefined ? [] : asList(given, role).map((array) => {
      const { name } = array.constructor;
      const length = array.length / samples;
      if (!isType(name)) {
        throw new InvalidInputError(`${role} is a list, a data set is kept of typed arrays`, {
          remedy: "give an Int32Array of labels, a Float32Array or a Uint8Array of values",
        });
      }
      if (Number.isInteger(length) && length > 0) return { role, type: name, length };
      throw new InvalidInputError(`${role} has ${String(array.length)} values, which is no \
multiple of the ${String(samples)} samples of its batch`);
    });
  });
}

export function isSampleArray(value: unknown): value is SampleArray {
  const { role, type, length } = (value ?? {}) as Record<string, unknown>;
  return (role === "x" || role === "y") && isType(type) && Number.isInteger(length)
    && Number(length) > 0;
}

/** Bytes of a sample. */
export function recordBytes(arrays: readonly SampleArray[]): number {
  return arrays.reduce(
    (sum, { type, length }) => sum + length * TYPES[type].BYTES_PER_ELEMENT, 0);
}

/** The records of a batch whose form is known. */
export function recordsOf({ x, y }: Batch, arrays: readonly SampleArray[], samples: number) {
  const given = [...asList(x, "x"), ...(y === undefined ? [] : asList(y, "y"))] as TypedArray[];
  const bytes = given.map(({ buffer, byteOffset, byteLength }) =>
    new Uint8Array(buffer, byteOffset, byteLength));
  const size = recordBytes(arrays);
  const records = new Uint8Array(samples * size);
  let at = 0;
  for (const array of bytes) {
    const part = array.length / samples;
    for (let i = 0; i < samples; i++) {
      records.set(array.subarray(i * part, (i + 1) * part), i * size + at);
    }
    at += part;
  }
  return records;
}

/** Arrays for a batch, to be filled by `recordsInto`. */
export interface BatchArrays {
  readonly bytes: readonly Uint8Array[];
  made(): Batch;
}

export function arraysOf(arrays: readonly SampleArray[], samples: number): BatchArrays {
  const made = arrays.map(({ type, length }): TypedArray => new TYPES[type](samples * length));
  const ofRole = (role: "x" | "y"): Inputs => {
    const some = made.filter((_, i) => arrays[i]?.role === role);
    const [only] = some;
    return some.length === 1 && only ? only : some;
  };
  const labelled = arrays.some(({ role }) => role === "y");
  return {
    bytes: made.map(({ buffer }) => new Uint8Array(buffer)),
    made: () => ({ x: ofRole("x"), ...(labelled ? { y: ofRole("y") } : {}) }),
  };
}

/** Puts a record into its place of the batch. */
export function recordsInto(
  { bytes }: BatchArrays, arrays: readonly SampleArray[], place: number, record: Uint8Array,
): void {
  let at = 0;
  arrays.forEach(({ type, length }, i) => {
    const size = length * TYPES[type].BYTES_PER_ELEMENT;
    bytes[i]?.set(record.subarray(at, at + size), place * size);
    at += size;
  });
}

function isType(name: unknown): name is keyof typeof TYPES {
  return typeof name === "string" && Object.hasOwn(TYPES, name);
}

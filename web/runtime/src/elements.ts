/**
 * Elements on the device and in files.
 *
 * On a device an element always takes four bytes: int64 and bool become i32 (spec/manifest.md).
 */

import { BundleFormatError, InternalError } from "./errors.ts";
import type { FileDtype } from "./manifest.ts";
import type { Bytes, TensorDtype } from "./safetensors.ts";

export const TENSOR_DTYPES: Readonly<Record<FileDtype, TensorDtype>> = {
  float32: "F32", int64: "I64", int32: "I32", bool: "BOOL", uint32: "U32",
};

/** A result tensor: int64 arrives as Int32Array, bool as Uint8Array of 0 and 1. */
export type Values = Float32Array | Int32Array | Uint32Array | Uint8Array;

/** The four-byte elements of a tensor of a file; `name` is for the message. */
export function toDevice(dtype: FileDtype, data: Uint8Array, name: string): Uint8Array {
  switch (dtype) {
    case "float32": case "int32": case "uint32":
      return data;
    case "bool":
      return bytesOf(Int32Array.from(data, (v) => (v === 0 ? 0 : 1)));
    case "int64": {
      const wide = new BigInt64Array(data.slice().buffer);
      return bytesOf(Int32Array.from(wide, (v) => narrow(v, name)));
    }
    default:
      return unreachable(dtype);
  }
}

/** The bytes that a file holds for four-byte elements. */
export function fromDevice(dtype: FileDtype, elements: Uint8Array): Uint8Array {
  switch (dtype) {
    case "float32": case "int32": case "uint32":
      return elements;
    case "bool":
      return Uint8Array.from(wordsOf(elements), (v) => (v === 0 ? 0 : 1));
    case "int64":
      return bytesOf(BigInt64Array.from(wordsOf(elements), (v) => BigInt(v)));
    default:
      return unreachable(dtype);
  }
}

/** Device elements as the typed array a caller gets. */
export function toValues(dtype: FileDtype, elements: Bytes): Values {
  switch (dtype) {
    case "float32":
      return new Float32Array(elements.buffer, elements.byteOffset, elements.length / 4);
    case "uint32":
      return new Uint32Array(elements.buffer, elements.byteOffset, elements.length / 4);
    case "int32": case "int64":
      return wordsOf(elements);
    case "bool":
      return Uint8Array.from(wordsOf(elements), (v) => (v === 0 ? 0 : 1));
    default:
      return unreachable(dtype);
  }
}

/** The memory of a typed array as bytes. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** A value that cannot exist: the switch above is exhaustive. */
export function unreachable(value: never): never {
  throw new InternalError(`unexpected ${JSON.stringify(value)}`);
}

function wordsOf(elements: Uint8Array): Int32Array {
  return new Int32Array(elements.buffer, elements.byteOffset, elements.length / 4);
}

function narrow(value: bigint, name: string): number {
  if (BigInt.asIntN(32, value) !== value) {
    throw new BundleFormatError(`${name} holds ${String(value)}, which does not fit in 32 bits`, {
      why: "devices compute with 32-bit integers",
    });
  }
  return Number(value);
}

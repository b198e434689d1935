/** Copies of what a user gives, to be given away: the user's arrays stay the user's. */

import type { BatchMemory } from "./batch-memory.ts";
import { InvalidInputError } from "./errors.ts";
import { asList, type InputArray, type Inputs } from "./inputs.ts";
import type { Bytes } from "./safetensors.ts";

export function copyBatch(
  x: Inputs, y: Inputs | undefined, memory?: BatchMemory,
): { x: Inputs; y: Inputs | undefined } {
  return { x: copyInputs(x, "x", memory), y: y === undefined ? y : copyInputs(y, "y", memory) };
}

export function copyInputs(given: Inputs, label: string, memory?: BatchMemory): Inputs {
  const copies = asList(given, label).map((array) => copyArray(array, memory));
  return copies.length === 1 && copies[0] ? copies[0] : copies;
}

function copyArray(array: InputArray, memory: BatchMemory | undefined): InputArray {
  const buffer = ArrayBuffer.isView(array) ? memory?.take(array.byteLength) : undefined;
  if (!buffer) return array.slice();
  const Values = array.constructor as Float32ArrayConstructor; // or whichever it is
  const copy = new Values(buffer);
  copy.set(array as Float32Array);
  return copy;
}

export function copyBytes(given: Uint8Array | ArrayBuffer | string): Bytes {
  if (typeof given === "string") return new TextEncoder().encode(given);
  if (given instanceof ArrayBuffer) return new Uint8Array(given.slice());
  if (given instanceof Uint8Array) return new Uint8Array(given);
  throw new InvalidInputError("the file is not given as a Uint8Array, ArrayBuffer or string");
}

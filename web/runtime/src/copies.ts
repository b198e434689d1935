/** Copies of what a user gives, to be given away: the user's arrays stay the user's. */

import { InvalidInputError } from "./errors.ts";
import { asList, type InputArray, type Inputs } from "./inputs.ts";
import type { Bytes } from "./safetensors.ts";

export function copyBatch(x: Inputs, y: Inputs | undefined): { x: Inputs; y: Inputs | undefined } {
  return { x: copyInputs(x, "x"), y: y === undefined ? y : copyInputs(y, "y") };
}

export function copyInputs(given: Inputs, label: string): Inputs {
  const copies = asList(given, label).map((array) => array.slice() as InputArray);
  return copies.length === 1 && copies[0] ? copies[0] : copies;
}

export function copyBytes(given: Uint8Array | ArrayBuffer | string): Bytes {
  if (typeof given === "string") return new TextEncoder().encode(given);
  if (given instanceof ArrayBuffer) return new Uint8Array(given.slice());
  if (given instanceof Uint8Array) return new Uint8Array(given);
  throw new InvalidInputError("the file is not given as a Uint8Array, ArrayBuffer or string");
}

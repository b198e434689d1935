/**
 * The difference of two sets of weights in one file: what a client of federated learning sends.
 *
 * Byte for byte what `hearth.save_delta` writes (hearth/bundle/delta.py): `after - before` by name,
 * floats as float32, whole numbers as int64, and the SHA-256 of the weights before.
 */

import { bytesOf } from "../elements.ts";
import { BundleFormatError, NumericalInstabilityError } from "../errors.ts";
import { areFinite } from "../finite.ts";
import {
  concatenate, decodeSafetensors, encodeSafetensors, type Bytes, type Tensor,
} from "../safetensors.ts";
import { sha256 } from "../sha256.ts";
import { plainTensors } from "../stored-weights.ts";

const FORMAT = "hearth-delta";
const VERSION = "1";
const SOURCE = "the file of the weights before";
const REST_OF_A_RUN = /^(optimizer|hearth)\//; // what a checkpoint holds besides the weights

type Tensors = ReadonlyMap<string, Tensor>;

/** Names of NumPy, which the fingerprint is over. */
const DTYPE_NAMES: Readonly<Partial<Record<Tensor["dtype"], string>>> = {
  F32: "float32", I64: "int64", I32: "int32", U32: "uint32", BOOL: "bool",
};

/** The difference from the weights of a file, or of a checkpoint, to those of another file. */
export async function encodeDelta(since: Uint8Array, weights: Uint8Array): Promise<Bytes> {
  const before = weightsOf(since), after = weightsOf(weights);
  checkAlike(before, after);
  const tensors = new Map([...before].map(([name, tensor]) =>
    [name, difference(name, tensor, after.get(name) ?? tensor)] as const));
  const base = await fingerprint(before);
  return encodeSafetensors(tensors, { format: FORMAT, version: VERSION, base });
}

function weightsOf(bytes: Uint8Array): Tensors {
  const tensors = plainTensors(decodeSafetensors(bytes, SOURCE), SOURCE);
  return new Map([...tensors].filter(([name]) => !REST_OF_A_RUN.test(name)));
}

function checkAlike(before: Tensors, after: Tensors): void {
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const [old, own] = [before.get(name), after.get(name)];
    if (old && own && described(old) === described(own)) continue;
    const is = (tensor: Tensor | undefined): string => tensor ? described(tensor) : "missing";
    throw new BundleFormatError(
      `"${name}" is ${is(old)} in ${SOURCE}, and ${is(own)} in the model`,
      { remedy: "give weights or a checkpoint of this very model" },
    );
  }
}

function described({ dtype, shape }: Tensor): string {
  return `${dtype} [${shape.join(", ")}]`;
}

function difference(name: string, before: Tensor, after: Tensor): Tensor {
  const { dtype, shape } = before;
  const [old, own] = [before.data.slice().buffer, after.data.slice().buffer];
  if (dtype !== "F32") {
    const [from, to] = [whole(before, old), whole(after, own)];
    const data = bytesOf(to.map((value, i) => value - (from[i] ?? 0n)));
    return { dtype: "I64", shape, data };
  }
  const from = new Float32Array(old);
  const data = new Float32Array(own).map((value, i) => value - (from[i] ?? NaN));
  if (areFinite(data)) return { dtype, shape, data: bytesOf(data) };
  throw new NumericalInstabilityError(`the difference of "${name}" is not finite`, {
    why: "weights before or after are not",
    remedy: "send weights of a step whose loss was finite",
  });
}

function whole({ dtype }: Tensor, buffer: ArrayBuffer): BigInt64Array {
  if (dtype === "I64") return new BigInt64Array(buffer);
  const Kind = dtype === "I32" ? Int32Array : dtype === "U32" ? Uint32Array : Uint8Array;
  return BigInt64Array.from([...new Kind(buffer)], BigInt);
}

/** SHA-256 over names, dtypes, shapes and bytes, in the order of the names. */
function fingerprint(weights: Tensors): Promise<string> {
  const encoder = new TextEncoder();
  const parts = [...weights].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([name, tensor]) => {
    const { dtype, shape, data } = tensor;
    const head = `${name}\0${DTYPE_NAMES[dtype] ?? dtype}\0${shape.join(",")}\0`;
    return [encoder.encode(head), data];
  });
  return sha256(concatenate(parts));
}

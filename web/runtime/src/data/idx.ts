/** IDX files, such as MNIST's: a magic number, big-endian sizes, row-major values; gzip or not. */

import { ArrayDataset, InvalidInputError, type InputArray } from "../index.ts";
import { inflate } from "./inflate.ts";
import { normalisation, PixelDataset, type NormaliseOptions } from "./pixels.ts";

export interface IdxArray {
  readonly shape: readonly number[];
  readonly data: InputArray;
}

type Reads = (view: DataView, at: number) => number;

/** Element types by the third byte: how many bytes, an array for them, how one is read. */
const TYPES: Readonly<Record<number, {
  bytes: number; make: (length: number) => Exclude<InputArray, readonly unknown[]>; read: Reads;
}>> = {
  8: { bytes: 1, make: (n) => new Uint8Array(n), read: (view, at) => view.getUint8(at) },
  9: { bytes: 1, make: (n) => new Int8Array(n), read: (view, at) => view.getInt8(at) },
  11: { bytes: 2, make: (n) => new Int16Array(n), read: (view, at) => view.getInt16(at) },
  12: { bytes: 4, make: (n) => new Int32Array(n), read: (view, at) => view.getInt32(at) },
  13: { bytes: 4, make: (n) => new Float32Array(n), read: (view, at) => view.getFloat32(at) },
  14: { bytes: 8, make: (n) => new Float64Array(n), read: (view, at) => view.getFloat64(at) },
};

/** The array in an IDX file; `name` is for messages.  Raises InvalidInputError. */
export async function readIdx(file: Blob, name = "the IDX file"): Promise<IdxArray> {
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const packed = head[0] === 0x1f && head[1] === 0x8b;
  const plain = packed ? new Blob(await inflate(file, "gzip", name)) : file;
  const view = new DataView(await plain.arrayBuffer());
  const isIdx = view.byteLength >= 4 && view.getUint16(0) === 0;
  const type = isIdx ? TYPES[view.getUint8(2)] : undefined;
  if (!type) throw new InvalidInputError(`${name} is no IDX file`);
  const body = 4 + 4 * view.getUint8(3);
  if (view.byteLength < body) throw truncated(name, body, view.byteLength);
  const shape = Array.from({ length: view.getUint8(3) }, (_, i) => view.getUint32(4 + 4 * i));
  const length = shape.reduce((product, extent) => product * extent, 1);
  const wanted = body + length * type.bytes;
  if (view.byteLength !== wanted) throw truncated(name, wanted, view.byteLength);
  if (type.bytes === 1 && view.getUint8(2) === 8) {
    return { shape, data: new Uint8Array(view.buffer, body) };
  }
  const data = type.make(length);
  for (let i = 0; i < length; i++) data[i] = type.read(view, body + i * type.bytes);
  return { shape, data };
}

/**
 * Images and labels in two IDX files: bytes become `(byte / 255 - mean) / std`, other values stay.
 *
 * Images are [samples, height, width] or [samples, channels, height, width].
 */
export async function idxDataset(
  images: Blob, labels: Blob, options: NormaliseOptions = {},
): Promise<PixelDataset | ArrayDataset> {
  const [x, y] = await Promise.all([readIdx(images, "images"), readIdx(labels, "labels")]);
  const [samples = 0] = x.shape;
  if (samples === 0 || y.shape.length !== 1 || y.shape[0] !== samples) {
    throw new InvalidInputError(`images of shape ${x.shape.join(" × ")} and labels of shape \
${y.shape.join(" × ")} do not belong together`);
  }
  const whole = !(y.data instanceof Float32Array || y.data instanceof Float64Array);
  const dataset = new ArrayDataset({
    x: x.data, y: whole ? Int32Array.from(y.data as Int32Array) : y.data, samples,
  });
  if (!(x.data instanceof Uint8Array)) return dataset;
  const [, channels = 1] = x.shape.length === 4 ? x.shape : [];
  return new PixelDataset(dataset, normalisation(channels, options));
}

function truncated(name: string, wanted: number, found: number): InvalidInputError {
  return new InvalidInputError(`${name} has ${String(found)} bytes, its header announces \
${String(wanted)}`, { why: "it is truncated, or has surplus bytes" });
}

/**
 * Weight files in fewer bytes (spec/manifest.md, "Stored weights"), widened to what the model has.
 */

import { BundleFormatError } from "./errors.ts";
import type { Tensor, TensorFile } from "./safetensors.ts";

const FORMAT = "hearth-weights";
const SCALE = "hearth/scale/";

/** The tensors of a file, with float16, bfloat16 and scaled int8 as float32. */
export function plainTensors(file: TensorFile, source: string): Map<string, Tensor> {
  const scales = new Map<string, Tensor>();
  const plain = new Map<string, Tensor>();
  const isStored = file.metadata["format"] === FORMAT;
  for (const [name, tensor] of file.tensors) {
    if (isStored && name.startsWith(SCALE)) scales.set(name.slice(SCALE.length), tensor);
    else plain.set(name, widened(tensor));
  }
  for (const [name, scale] of scales) {
    const codes = plain.get(name);
    if (!codes) throw new BundleFormatError(`${source}: "${SCALE}${name}" scales no tensor`);
    plain.set(name, dequantized(name, codes, scale, source));
  }
  return plain;
}

function widened(tensor: Tensor): Tensor {
  const { dtype, shape, data } = tensor;
  if (dtype !== "F16" && dtype !== "BF16") return tensor;
  const words = new Uint16Array(data.slice().buffer);
  const bits = dtype === "BF16"
    ? Uint32Array.from(words, (word) => (word << 16) >>> 0)
    : new Uint32Array(Float32Array.from(words, halfValue).buffer);
  return { dtype: "F32", shape, data: new Uint8Array(bits.buffer) };
}

/** The number that the bits of a float16 stand for. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

function dequantized(name: string, codes: Tensor, scale: Tensor, source: string): Tensor {
  const [channels = 0] = codes.shape;
  const fits = codes.dtype === "I8" && scale.dtype === "F32" && codes.shape.length > 0
    && scale.shape.length === 1 && scale.shape[0] === channels;
  if (!fits) {
    throw new BundleFormatError(
      `${source}: "${name}" and its scale are not int8 and one float32 for each channel`,
    );
  }
  const factors = new Float32Array(scale.data.slice().buffer);
  const perChannel = codes.data.length / channels;
  const signed = new Int8Array(codes.data.slice().buffer);
  const values = Float32Array.from(signed, (code, i) =>
    code * (factors[Math.floor(i / perChannel)] ?? NaN));
  return { dtype: "F32", shape: codes.shape, data: new Uint8Array(values.buffer) };
}

/**
 * Reads and writes safetensors files (https://github.com/huggingface/safetensors).
 *
 * The layout: a little-endian u64 with the length of the header, the header as JSON padded with
 * spaces to a multiple of 8, then the tensors without gaps.  Tensors stay in the order they are
 * given.  The reader refuses every file whose header does not describe each byte exactly once.
 */

import { BundleFormatError } from "./errors.ts";

const ITEM_BYTES = {
  F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1,
  BOOL: 1,
} as const;
const MAX_HEADER_BYTES = 100_000_000; // the reference reader's limit

export type Bytes = Uint8Array<ArrayBuffer>;
export type TensorDtype = keyof typeof ITEM_BYTES;

/** A tensor as it lies in a file: row-major, little-endian. */
export interface Tensor {
  dtype: TensorDtype;
  shape: readonly number[];
  data: Uint8Array;
}

export interface TensorFile {
  tensors: ReadonlyMap<string, Tensor>;
  metadata: Readonly<Record<string, string>>;
  /** Everything before the first tensor, as it stands in the file. */
  head: Uint8Array;
}

/** Whether bytes look like a safetensors file: a plausible length, then a JSON object. */
export function looksLikeSafetensors(bytes: Uint8Array): boolean {
  return bytes.length > 8 && bytes[8] === 0x7b && headerLength(bytes) <= bytes.length - 8;
}

/** The tensors of a file; `source` names it in messages.  They share the memory of `bytes`. */
export function decodeSafetensors(bytes: Uint8Array, source: string): TensorFile {
  const body = 8 + checkedHeaderLength(bytes, source);
  const head = bytes.subarray(0, body);
  const header = parseHeader(head.subarray(8), source);
  const tensors = new Map<string, Tensor>();
  let metadata: Record<string, string> = {};
  const spans: [number, number, string][] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      metadata = parseMetadata(value, source);
      continue;
    }
    const { dtype, shape, begin, end } = parseEntry(name, value, source);
    spans.push([begin, end, name]);
    tensors.set(name, { dtype, shape, data: bytes.subarray(body + begin, body + end) });
  }
  checkCoverage(spans, bytes.length - body, source);
  return { tensors, metadata, head };
}

/** The bytes of a safetensors file with the tensors in the given order. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, Tensor>, metadata: Readonly<Record<string, string>> = {},
): Bytes {
  const fields: string[] = [];
  const field = (name: string, value: unknown): void => {
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
  };
  if (Object.keys(metadata).length > 0) field("__metadata__", metadata);
  let end = 0;
  for (const [name, { dtype, shape, data }] of tensors) {
    const begin = end;
    end += data.length;
    field(name, { dtype, shape, data_offsets: [begin, end] });
  }
  const header = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(header.length / 8) * 8;
  const head = new Uint8Array(8 + length).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(header, 8);
  return concatenate([head, ...[...tensors.values()].map(({ data }) => data)]);
}

/** One array of bytes from several. */
export function concatenate(parts: readonly Uint8Array[]): Bytes {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    result.set(part, position);
    position += part.length;
  }
  return result;
}

function headerLength(bytes: Uint8Array): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
}

function checkedHeaderLength(bytes: Uint8Array, source: string): number {
  const size = String(bytes.length);
  if (bytes.length < 8) fail(source, `has ${size} bytes, a header needs at least 8`);
  const length = headerLength(bytes);
  if (length > Math.min(bytes.length - 8, MAX_HEADER_BYTES)) {
    throw new BundleFormatError(
      `${source} announces a header of ${String(length)} bytes, but has ${size} in all`,
      { why: "the file is truncated, or is not a safetensors file" },
    );
  }
  return length;
}

function parseHeader(text: Uint8Array, source: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  } catch (error) {
    throw new BundleFormatError(`${source}: the header is not JSON`, { why: String(error) });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return fail(source, "the header is not a JSON object");
  }
  return value as Record<string, unknown>;
}

function parseMetadata(value: unknown, source: string): Record<string, string> {
  const object = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!object || !Object.values(value).every((v) => typeof v === "string")) {
    return fail(source, "__metadata__ must map names to strings");
  }
  return value as Record<string, string>;
}

interface Entry {
  dtype: TensorDtype;
  shape: number[];
  begin: number;
  end: number;
}

function parseEntry(name: string, value: unknown, source: string): Entry {
  const where = `tensor ${JSON.stringify(name)}`;
  if (typeof value !== "object" || value === null) return fail(source, `${where} is no object`);
  const { dtype, shape, data_offsets: offsets } = value as Record<string, unknown>;
  if (!isDtype(dtype)) return fail(source, `${where} has the unknown dtype ${String(dtype)}`);
  if (!isCounts(shape)) return fail(source, `${where} has no proper shape`);
  const [begin, end] = isCounts(offsets) ? offsets : [];
  if (begin === undefined || end === undefined || begin > end) {
    return fail(source, `${where} has no proper data_offsets`);
  }
  const bytes = shape.reduce((product, n) => product * n, ITEM_BYTES[dtype]);
  if (bytes !== end - begin) {
    fail(source, `${where} needs ${String(bytes)} bytes but has ${String(end - begin)}`);
  }
  return { dtype, shape, begin, end };
}

function checkCoverage(spans: [number, number, string][], bytes: number, source: string): void {
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let covered = 0;
  for (const [begin, end, name] of spans) {
    const where = `tensor ${JSON.stringify(name)}`;
    if (end > bytes) {
      throw new BundleFormatError(`${source}: ${where} reaches beyond the end of the file`, {
        why: "the file is truncated",
      });
    }
    if (begin !== covered) fail(source, `${where} leaves a hole or overlaps another tensor`);
    covered = end;
  }
  if (covered !== bytes) {
    fail(source, `${String(bytes - covered)} bytes after the last tensor belong to nothing`);
  }
}

function isDtype(value: unknown): value is TensorDtype {
  return typeof value === "string" && Object.hasOwn(ITEM_BYTES, value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function fail(source: string, problem: string): never {
  throw new BundleFormatError(`${source}: ${problem}`);
}

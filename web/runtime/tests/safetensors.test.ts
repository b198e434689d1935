import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { BundleFormatError } from "../src/errors.ts";
import { decodeSafetensors, encodeSafetensors, type Tensor } from "../src/safetensors.ts";
import { digestOf, sha256 } from "../src/sha256.ts";
import { fixtureFile, raises } from "./fixture.ts";

const file = (header: string, body = 0): Uint8Array => {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + body);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
};
const entry = (fields: string): string => `{"w":{${fields}}}`;
const F32 = '"dtype":"F32","shape":[2],"data_offsets":[0,8]';

test("what is written is read again, in order and with metadata", () => {
  const tensors = new Map<string, Tensor>([
    ["b", { dtype: "F32", shape: [2], data: new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]) }],
    ["a.0", { dtype: "BOOL", shape: [], data: new Uint8Array([1]) }],
    ["empty", { dtype: "I64", shape: [0, 3], data: new Uint8Array(0) }],
  ]);
  const bytes = encodeSafetensors(tensors, { format: "pt", note: "ü" });
  const read = decodeSafetensors(bytes, "test");
  assert.deepEqual([...read.tensors], [...tensors]);
  assert.deepEqual(read.metadata, { format: "pt", note: "ü" });
  assert.equal(read.head.length % 8, 0);
});

test("the compiler's file is written again byte for byte", () => {
  const bytes = fixtureFile("weights.safetensors");
  const { tensors, metadata } = decodeSafetensors(bytes, "test");
  assert.deepEqual(encodeSafetensors(tensors, metadata), bytes);
});

test("every bad file is refused", () => {
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(3), /has 3 bytes/],
    [new TextEncoder().encode("<!DOCTYPE html><html></html>"), /announces a header/],
    [fixtureFile("weights.safetensors").subarray(0, 100), /truncated/],
    [fixtureFile("weights.safetensors").subarray(0, 270), /beyond the end of the file/],
    [new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 123]), /announces a header/],
    [file("{oops"), /the header is not JSON/],
    [file("[1]"), /not a JSON object/],
    [file('{"__metadata__":{"a":1}}'), /__metadata__/],
    [file(entry('"dtype":"F31","shape":[2],"data_offsets":[0,8]'), 8), /unknown dtype F31/],
    [file(entry('"dtype":"F32","shape":[-2],"data_offsets":[0,8]'), 8), /no proper shape/],
    [file(entry('"dtype":"F32","shape":[2],"data_offsets":[8,0]'), 8), /no proper data_offsets/],
    [file(entry('"dtype":"F32","shape":[3],"data_offsets":[0,8]'), 8), /needs 12 bytes but has 8/],
    [file(entry(F32), 12), /4 bytes after the last tensor/],
    [file(`{"w":{${F32}},"v":{${F32}}}`, 8), /hole or overlaps/],
    [file('{"w":7}'), /is no object/],
  ];
  for (const [bytes, message] of cases) {
    raises(() => decodeSafetensors(bytes, "test"), BundleFormatError, message);
  }
});

test("both ways to a SHA-256 agree with Node's", async () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 1000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7) & 255);
    const wanted = createHash("sha256").update(bytes).digest("hex");
    assert.equal(await sha256(bytes), wanted);
    assert.equal(Buffer.from(digestOf(bytes)).toString("hex"), wanted);
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { readCheckpoint, writeCheckpoint } from "../src/tools/checkpoint.ts";
import { BundleFormatError, NumericalInstabilityError } from "../src/errors.ts";
import type { Manifest } from "../src/manifest.ts";
import { decodeSafetensors, encodeSafetensors, type Tensor } from "../src/safetensors.ts";
import { initialState } from "../src/state.ts";
import {
  layoutOf, readWeights, writeJson, writeSafetensors, writeWeights,
} from "../src/weights.ts";
import { encode, fixtureFile, fixtureManifest, raises } from "./fixture.ts";

const manifest = fixtureManifest();
const original = decodeSafetensors(fixtureFile("weights.safetensors"), "weights");
const layout = layoutOf(manifest, original);
const constants = decodeSafetensors(fixtureFile("constants.safetensors"), "constants");
const start = (): Uint8Array => initialState(manifest, original, constants, 2n ** 33n + 5n);
const json = (): { weights: Record<string, number[]>; shapes: Record<string, number[]> } =>
  JSON.parse(new TextDecoder().decode(writeJson(manifest, start(), 0))) as ReturnType<typeof json>;

test("the initial state holds weights, constants and both words of the seed", () => {
  const image = new DataView(start().buffer);
  assert.equal(image.getFloat32(48, true), 0.5);
  assert.equal(image.getFloat32(1540, true), 2);
  assert.deepEqual([image.getUint32(1280, true), image.getUint32(1284, true)], [5, 2]);
});

test("untouched weights are written byte for byte as they came", () => {
  const bytes = writeSafetensors(layout, start(), 0);
  assert.deepEqual(bytes, fixtureFile("weights.safetensors"));
});

test("the JSON form gives every weight back exactly", () => {
  const image = new Uint8Array(manifest.state_bytes);
  writeWeights(image, 0, readWeights(manifest, encode(json())));
  const bytes = writeSafetensors(layout, image, 0);
  assert.deepEqual(bytes, fixtureFile("weights.safetensors"));
  assert.deepEqual(json().shapes, { linear_weight: [3, 4], linear_bias: [3], batches_seen: [] });
});

test("a name map wins, and plain names are accepted in JSON too", () => {
  const { weights } = json();
  const { linear_weight: weight = [], linear_bias: bias = [], batches_seen: seen = [] } = weights;
  const plain = { "linear.weight": weight, "linear.bias": bias, batches_seen: seen };
  assert.equal(readWeights(manifest, encode({ weights: plain })).size, 3);
  const mapped = { w: weight, linear_bias: bias, batches_seen: seen };
  const names = { w: "linear.weight" };
  assert.equal(readWeights(manifest, encode({ weights: mapped }), names).size, 3);
});

test("a bad weight file is refused with the key", () => {
  const { weights } = json();
  const refuses = (
    changes: Record<string, unknown>, text: RegExp, names?: Record<string, string>,
  ): void => {
    const bytes = encode({ weights: { ...weights, ...changes } });
    raises(() => readWeights(manifest, bytes, names), BundleFormatError, text);
  };
  refuses({ linear_bias: undefined }, /lacks "linear.bias"/);
  refuses({ extra: [1] }, /no weight "extra"/);
  refuses({ linear_bias: [1, 2] }, /"linear_bias" has 2 numbers.*needs 3/);
  refuses({ linear_bias: [1, 2, "3"] }, /"linear_bias"\[2\] is 3, not a float32/);
  refuses({ linear_bias: 7 }, /not a list of numbers/);
  refuses({ batches_seen: [0.5] }, /"batches_seen"\[0\] is 0.5, not a int64/);
  refuses({ "linear.bias": [1, 2, 3] }, /both "linear_bias" and "linear.bias"/);
  refuses({}, /mentions "ghost", the file has/, { ghost: "linear.bias" });
  refuses({}, /mentions "ghost", the model has/, { linear_bias: "ghost" });
  raises(() => readWeights(manifest, encode({})), BundleFormatError, /no object "weights"/);
  const shapes = { linear_bias: [1, 3] };
  raises(() => readWeights(manifest, encode({ weights, shapes })), BundleFormatError, /has shape/);
  const truncated = fixtureFile("weights.safetensors").subarray(0, 150);
  raises(() => readWeights(manifest, truncated), BundleFormatError, /neither safetensors nor JSON/);
});

test("safetensors with other shapes, dtypes or names are refused", () => {
  const refuses = (name: string, tensor: Tensor | undefined, text: RegExp): void => {
    const tensors = new Map(original.tensors);
    if (tensor) tensors.set(name, tensor);
    else tensors.delete(name);
    raises(() => readWeights(manifest, encodeSafetensors(tensors)), BundleFormatError, text);
  };
  const data = new Uint8Array(12);
  const wrongShape = /F32 \[1, 3\], the model has F32 \[3\]/;
  refuses("linear.bias", { dtype: "F32", shape: [1, 3], data }, wrongShape);
  refuses("linear.bias", { dtype: "I32", shape: [3], data }, /linear.bias is I32/);
  refuses("linear_bias", { dtype: "F32", shape: [3], data }, /no weight "linear_bias"/);
  refuses("linear.bias", undefined, /lacks "linear.bias"/);
  const wide = new Uint8Array(BigInt64Array.of(2n ** 40n).buffer);
  const seen: Tensor = { dtype: "I64", shape: [], data: wide };
  const big = new Map(original.tensors).set("batches_seen", seen);
  const read = readWeights(manifest, encodeSafetensors(big));
  raises(() => { writeWeights(start(), 0, read); }, BundleFormatError, /does not fit in 32 bits/);
});

test("tied weights must agree", () => {
  const tied: Manifest = {
    ...manifest, state: [...manifest.state, {
      name: "twin", role: "parameter", dtype: "float32", shape: [3], offset: 48,
    }],
  };
  const file = (twin: number[]): Uint8Array =>
    encode({ weights: { ...json().weights, twin } });
  const image = new Uint8Array(manifest.state_bytes);
  writeWeights(image, 0, readWeights(tied, file([0.5, -0.25, 0.125])));
  const other = readWeights(tied, file([0.5, -0.25, 0]));
  raises(() => { writeWeights(image, 0, other); }, BundleFormatError, /tied to another weight/);
});

test("tied optimizer state of a checkpoint must agree", () => {
  const image = start();
  new DataView(image.buffer).setFloat32(304, 1.5, true);
  const file = decodeSafetensors(
    writeCheckpoint(manifest, image, { step: 1, learningRates: [0.1] }), "checkpoint");
  const name = "momentum_buffer/linear.bias";
  const tied: Manifest = {
    ...manifest, state: [...manifest.state, {
      name: "momentum_buffer/twin", role: "optimizer", dtype: "float32", shape: [3], offset: 304,
    }],
  };
  const withTwin = (twin: Tensor): Uint8Array =>
    encodeSafetensors(new Map(file.tensors).set("optimizer/momentum_buffer/twin", twin),
      file.metadata);
  const same = file.tensors.get(`optimizer/${name}`);
  assert.ok(same);
  const again = start();
  readCheckpoint(tied, withTwin(same), again);
  assert.deepEqual(again.slice(304, 316), image.slice(304, 316));
  const other = { ...same, data: new Uint8Array(12) };
  raises(() => readCheckpoint(tied, withTwin(other), again), BundleFormatError,
    /the checkpoint: "momentum_buffer\/linear.bias" is tied to another/);
});

test("JSON cannot hold a weight that is not finite", () => {
  const image = start();
  new DataView(image.buffer).setFloat32(52, NaN, true);
  raises(() => writeJson(manifest, image, 0), NumericalInstabilityError, /linear.bias holds NaN/);
});

test("a checkpoint gives state, seed, step and learning rates back", () => {
  const image = start();
  new DataView(image.buffer).setFloat32(256, 1.5, true);
  new DataView(image.buffer).setInt32(1024, 12, true);
  const bytes = writeCheckpoint(manifest, image, { step: 12, learningRates: [0.025] });
  const again = initialState(manifest, original, constants, 0n);
  const progress = readCheckpoint(manifest, bytes, again);
  assert.deepEqual(progress, { step: 12, learningRates: [0.025] });
  assert.deepEqual(again, image);
});

test("a checkpoint of another run is refused before anything is written", () => {
  const image = start();
  const bytes = writeCheckpoint(manifest, image, { step: 1, learningRates: [0.1] });
  const { tensors, metadata } = decodeSafetensors(bytes, "checkpoint");
  const refuses = (
    changed: ReadonlyMap<string, Tensor>, data: Record<string, string>, text: RegExp,
  ): void => {
    const before = image.slice();
    const file = encodeSafetensors(changed, data);
    raises(() => readCheckpoint(manifest, file, image), BundleFormatError, text);
    assert.deepEqual(image, before);
  };
  const without = (name: string): Map<string, Tensor> =>
    new Map([...tensors].filter(([key]) => key !== name));
  refuses(original.tensors, {}, /not a Hearth checkpoint[^]*loadWeights/);
  refuses(tensors, { ...metadata, version: "2" }, /has version 2/);
  refuses(tensors, { ...metadata, optimizer: "{" }, /optimizer is not JSON/);
  refuses(tensors, { ...metadata, optimizer: '{"class":"Adam","groups":[]}' }, /another optimizer/);
  refuses(without("hearth/seed"), metadata, /hearth\/seed must hold 2 int64/);
  refuses(without("linear.bias"), metadata, /no tensor "linear.bias"/);
  refuses(without("optimizer/momentum_buffer/linear.bias"), metadata, /momentum_buffer/);
  const data = new Uint8Array(8);
  refuses(new Map(tensors).set("x", { dtype: "I64", shape: [], data }), metadata, /unknown to the/);
});

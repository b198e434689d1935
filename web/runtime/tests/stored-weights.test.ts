import assert from "node:assert/strict";
import { test } from "node:test";
import { BundleFormatError } from "../src/errors.ts";
import type { Tensor, TensorDtype } from "../src/safetensors.ts";
import { plainTensors } from "../src/stored-weights.ts";
import { raises } from "./fixture.ts";

const METADATA = { format: "hearth-weights", precision: "int8" };

function tensor(dtype: TensorDtype, shape: number[], values: ArrayBufferView): Tensor {
  return { dtype, shape, data: new Uint8Array(values.buffer as ArrayBuffer) };
}

function plain(tensors: Record<string, Tensor>, metadata: Record<string, string> = METADATA) {
  const file = { tensors: new Map(Object.entries(tensors)), metadata, head: new Uint8Array() };
  return plainTensors(file, "file");
}

function floats(found: Tensor | undefined): number[] {
  assert.equal(found?.dtype, "F32");
  return [...new Float32Array(found.data.slice().buffer)];
}

test("float16 and bfloat16 are widened exactly, also without our metadata", () => {
  const half = new Uint16Array([0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x7c00, 0x7e00]);
  const brain = new Uint16Array([0x3f80, 0xc049, 0x0001]);
  const found = plain({
    half: tensor("F16", [7], half), brain: tensor("BF16", [3], brain),
  }, {});
  assert.deepEqual(floats(found.get("half")), [1, -2, 2 ** -24, 65504, -0, Infinity, NaN]);
  assert.deepEqual(floats(found.get("brain")), [1, -3.140625, 2 ** -133]);
});

test("int8 codes are multiplied by the scale of their channel", () => {
  const found = plain({
    "w": tensor("I8", [2, 3], new Int8Array([127, -127, 0, 1, 2, -3])),
    "hearth/scale/w": tensor("F32", [2], new Float32Array([0.5, 2])),
    "counter": tensor("I8", [1], new Int8Array([5])),
  });
  assert.deepEqual([...found.keys()], ["w", "counter"]);
  assert.deepEqual(floats(found.get("w")), [63.5, -63.5, 0, 2, 4, -6]);
  assert.equal(found.get("counter")?.dtype, "I8");
});

test("scales that fit no tensor are refused by name", () => {
  const scale = tensor("F32", [2], new Float32Array(2));
  const alone = { "hearth/scale/w": scale };
  raises(() => plain(alone), BundleFormatError, /scale\/w" scales no tensor/);
  const codes = tensor("I8", [3, 1], new Int8Array(3));
  const unequal = { ...alone, w: codes };
  raises(() => plain(unequal), BundleFormatError, /"w" and its sca/);
});

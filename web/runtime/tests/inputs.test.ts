import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidInputError } from "../src/errors.ts";
import {
  checkBatch, namedArguments, positionalArguments, type CheckedBatch, type Inputs,
} from "../src/inputs.ts";
import type { Program } from "../src/manifest.ts";
import { fixtureManifest, raises } from "./fixture.ts";

const program = fixtureManifest().programs["evaluate"] as Program;
const check = (x: Inputs, y: Inputs): CheckedBatch => checkBatch([
  ...positionalArguments(program, "input", x, "x"),
  ...positionalArguments(program, "target", y, "y"),
]);
const x = new Float32Array(8);
const refuses = (a: unknown, b: unknown, message: RegExp): void => {
  raises(() => check(a as Inputs, b as Inputs), InvalidInputError, message);
};

test("every kind of array that fits is accepted, with its batch size", () => {
  const labels = [1, -100];
  const good = [
    labels, Int32Array.from(labels), BigInt64Array.from(labels, BigInt), Int16Array.from(labels),
    Int8Array.from(labels), [Int32Array.from(labels)],
  ];
  for (const y of good) {
    const { batch, feeds } = check(x, y);
    assert.equal(batch, 2);
    const bytes = feeds[1]?.data.slice().buffer ?? new ArrayBuffer(0);
    assert.deepEqual([...new Int32Array(bytes)], labels);
  }
  assert.equal(check(x, Uint8Array.of(0, 2)).batch, 2);
  assert.equal(check([0, 1, 2, 3], [0]).batch, 1);
  assert.equal(check(new Float64Array(12), new Uint32Array(3)).batch, 3);
});

test("a wrong number, length or kind of array names the argument", () => {
  refuses(new Float32Array(7), [0], /x has 7 values.*multiple of the 4 values of one sample/);
  refuses(new Float32Array(0), [0], /x is empty/);
  refuses(x, [0], /y has 1 samples, x has 2/);
  refuses(x, [], /y is empty/);
  refuses([x, x], [0, 1], /x: 2 arrays given, the program takes 1 \(x\)/);
  refuses(undefined, [0, 1], /x: 0 arrays given/);
  refuses("pixels", [0, 1], /x is a string, expected a typed array/);
  refuses(null, [0, 1], /x is null/);
  refuses(new DataView(x.buffer), [0, 1], /x is DataView/);
  refuses(new Uint8Array(8), [0, 1], /x is Uint8Array, the model takes float32/);
  refuses(x, new Float32Array(2), /y is Float32Array, the model takes int64/);
});

test("a bundle that trains nothing takes numbers that are not finite", () => {
  const given = positionalArguments(program, "input", [NaN, -Infinity, 0, 0], "x");
  const [feed] = checkBatch(given, false).feeds;
  assert.deepEqual(feed?.data, new Uint8Array(Float32Array.of(NaN, -Infinity, 0, 0).buffer));
  raises(() => checkBatch(given), InvalidInputError, /x\[0, 0\] is NaN/);
});

test("a bad value is named with its place", () => {
  refuses(new Float32Array([0, 0, 0, 0, 0, NaN, 0, 0]), [0, 1], /x\[1, 1\] is NaN/);
  refuses([0, 0, 0, 0, 0, 0, 0, 1e39], [0, 1], /x\[1, 3\] is 1e\+39, expected a finite/);
  refuses(new Float64Array([0, Infinity, 0, 0, 0, 0, 0, 0]), [0, 1], /x\[0, 1\] is Infinity/);
  refuses([0, 0, 0, "7", 0, 0, 0, 0], [0, 1], /x\[0, 3\] is a string/);
  refuses(x, [0, 3], /y\[1\] is 3, allowed are 0 to 2 or -100/);
  refuses(x, [-1, 0], /y\[0\] is -1/);
  refuses(x, [0.5, 0], /y\[0\] is 0.5, expected a 32-bit integer/);
  refuses(x, BigInt64Array.of(0n, 2n ** 40n), /y\[1\] is 1099511627776/);
  refuses(x, Uint32Array.of(0, 2 ** 32 - 1), /y\[1\] is 4294967295/);
});

test("inputs by name must be known and complete", () => {
  raises(() => namedArguments(program, { x }), InvalidInputError, /input "y" is missing/);
  raises(() => namedArguments(program, { x, y: [0, 1], z: x }), InvalidInputError, /no input "z"/);
  const bad = { x: 7 as unknown as Float32Array, y: [0] };
  raises(() => namedArguments(program, bad), InvalidInputError, /x is a number/);
  assert.equal(namedArguments(program, { y: [0, 1], x }).length, 2);
});

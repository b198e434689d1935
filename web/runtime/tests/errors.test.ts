import assert from "node:assert/strict";
import { test } from "node:test";
import * as errors from "../src/errors.ts";

test("every error crosses between threads as its own class with all its fields", () => {
  const classes = Object.values(errors).filter((value) =>
    typeof value === "function" && value.prototype instanceof Error);
  assert.equal(classes.length, 10);
  for (const kind of classes as (typeof errors.HearthError)[]) {
    const error = new kind("what", { where: "fc1", why: "because", remedy: "do", step: 3 });
    const again = errors.errorFromData(structuredClone(errors.errorToData(error)));
    assert.equal(again.constructor, kind);
    assert.deepEqual(Object.entries(again), Object.entries(error));
    assert.equal(again.message, error.message);
    assert.equal(again.name, kind.name);
  }
});

test("a foreign error becomes an InternalError that keeps its message", () => {
  const again = errors.errorFromData(errors.errorToData(new TypeError("x is not a function")));
  assert.ok(again instanceof errors.InternalError);
  assert.match(again.message, /TypeError: x is not a function[^]*report/);
});

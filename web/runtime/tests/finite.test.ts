import assert from "node:assert/strict";
import { test } from "node:test";

import { areFinite, compileSearch, isSumFinite } from "../src/finite.ts";

const WAYS = { areFinite, isSumFinite };
const EXTREMES = [3.4028234663852886e38, -3.4028234663852886e38, 1e-45, -1e-45, -0, 1e-40];

for (const [name, way] of Object.entries(WAYS)) {
  test(`${name}: one bad value anywhere is found, and none where there is none`, () => {
    for (const length of [0, 1, 255, 256, 257, 4096, 4097, 4111, 8192 + 15]) {
      const values = Float32Array.from({ length }, (_, i) => EXTREMES[i % 7] ?? Math.sin(i));
      assert.ok(way(values), String(length));
      for (const place of [0, 1, 255, 4095, 4096, length - 2, length - 1]) {
        if (place < 0 || place >= length) continue;
        for (const bad of [NaN, -NaN, Infinity, -Infinity]) {
          const good = values[place] ?? 0;
          values[place] = bad;
          assert.ok(!way(values), `${String(bad)} at ${String(place)} of ${String(length)}`);
          values[place] = good;
        }
      }
    }
  });
}

test("what an earlier search left behind is not looked at", () => {
  assert.ok(!areFinite(new Float32Array(4096).fill(NaN)));
  assert.ok(areFinite(new Float32Array(4001)));
});

test("the search is not done by sums here", () => {
  assert.ok(compileSearch());
});

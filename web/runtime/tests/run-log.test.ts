import assert from "node:assert/strict";
import { test } from "node:test";

import type { TrainResult } from "../src/engine.ts";
import { RunLog } from "../src/run-log.ts";

function step(number: number, metrics: Record<string, number> = {}): TrainResult {
  return { step: number, loss: number / 2, metrics };
}

test("a metric lies beside the loss of its step, whatever the other steps told", () => {
  const log = new RunLog(0);
  log.note({ steps: [step(1), step(2, { accuracy: 0.25 })], ms: 1 });
  log.note({ steps: [step(3, { norm: 4 }), step(4, { accuracy: 0.5, norm: 3 })], ms: 1 });
  assert.deepEqual(log.record.losses, [0.5, 1, 1.5, 2]);
  assert.deepEqual(log.record.metrics, {
    accuracy: [NaN, 0.25, NaN, 0.5], norm: [NaN, NaN, 4, 3],
  });
});

test("steps that are taken back take their metrics with them", () => {
  const log = new RunLog(0);
  log.note({ steps: [1, 2, 3].map((number) => step(number, { accuracy: number })), ms: 1 });
  log.rewind(1, { steps: [step(2, { accuracy: 20 })], step: 2 });
  assert.deepEqual(log.record.metrics, { accuracy: [1, 20] });
  assert.deepEqual([log.record.losses, log.record.lossStep], [[0.5, 1], 2]);
});

test("after steps outside of fit the history begins anew", () => {
  const log = new RunLog(0);
  log.note({ steps: [step(1, { accuracy: 1 })], ms: 1 });
  log.note({ steps: [step(5, { norm: 1 })], ms: 1 });
  assert.deepEqual([log.record.losses, log.record.metrics], [[2.5], { norm: [1] }]);
});

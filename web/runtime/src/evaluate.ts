/** Loss and metrics over a whole data set. */

import { addCounts, type Counts } from "./counts.ts";
import { batchesOf, requireBatches, type Batches } from "./data-loader.ts";
import type { EvaluateResult } from "./engine.ts";
import { InvalidInputError } from "./errors.ts";
import { sampleCount } from "./inputs.ts";
import type { Trainer } from "./trainer.ts";

/**
 * Over all batches: means weighted by their samples, and sums of the counts.
 *
 * Two batches are under way at any time.
 */
export async function evaluate(
  trainer: Trainer, batches: Batches, signal?: AbortSignal,
): Promise<EvaluateResult> {
  const totals = { loss: 0, metrics: {} as Record<string, number>, samples: 0 };
  const sums: Counts = {};
  requireBatches(batches, "the batches");
  let last: Promise<void> | undefined;
  for await (const { x, y } of batchesOf(batches, 0)) {
    signal?.throwIfAborted();
    const count = sampleCount(trainer.manifest.programs["evaluate"], x);
    const running = trainer.evaluateBatch(x, y).then(({ loss, metrics, counts }) => {
      totals.samples += count;
      totals.loss += count * loss;
      for (const [name, value] of Object.entries(metrics)) {
        totals.metrics[name] = (totals.metrics[name] ?? 0) + count * value;
      }
      addCounts(sums, counts);
    });
    running.catch(() => undefined); // heard when it is awaited
    await last;
    last = running;
  }
  await last;
  const { loss, metrics, samples } = totals;
  if (samples === 0) throw new InvalidInputError("there is no batch to evaluate");
  const means = Object.entries(metrics).map(([name, total]) => [name, total / samples] as const);
  return { loss: loss / samples, metrics: Object.fromEntries(means), counts: sums };
}

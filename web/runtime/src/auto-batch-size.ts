/** `batchSize: "auto"`: a run finds the size before its first step, and a resumed one knows it. */

import { DataLoader, type Batches } from "./data-loader.ts";
import type { BatchSizeEvent } from "./fit-events.ts";
import type { Cursor } from "./run-record.ts";
import type { Trainer } from "./trainer.ts";

const TRIAL_SAMPLES = 32; // repeated to fill a batch
const MOST = 1024;

/**
 * Chooses the batch size of a loader that leaves it open: the one in the record of a run that goes
 * on `from` a place in the data, else the one that `trainer.bestBatchSize` finds, which is told.
 */
export async function* chooseBatchSize(
  trainer: Trainer, batches: Batches, from: Cursor | undefined,
): AsyncGenerator<BatchSizeEvent> {
  const { record } = trainer.log;
  const known = from ? record.batchSize : undefined;
  record.batchSize = undefined;
  if (!(batches instanceof DataLoader) || !batches.isAuto) return;
  if (known !== undefined) batches.choose(known);
  if (!batches.isChosen) {
    const { x, y } = await batches.sample(TRIAL_SAMPLES);
    const limit = Math.min(MOST, batches.samples);
    const { batchSize, stepMs } = await trainer.bestBatchSize(x, y, { limit });
    batches.choose(batchSize);
    const { step } = trainer;
    yield { kind: "batchSize", epoch: from?.epoch ?? 0, step, batchSize, stepMs };
  }
  record.batchSize = batches.batchSize;
}

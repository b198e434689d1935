/**
 * `batchSize: "auto"`: a run finds the size before its first step, and once more before an epoch
 * where training has moved to the GPU since.  A resumed run knows it.
 */

import { DataLoader, type Batches } from "./data-loader.ts";
import type { BatchSizeEvent } from "./fit-events.ts";
import type { Cursor, RunRecord } from "./run-record.ts";
import type { Trainer } from "./trainer.ts";

/** The largest size that a search considers where nobody says another limit. */
export const LARGEST_TRIED = 1024;
const TRIAL_SAMPLES = 32; // repeated to fill a batch

/**
 * Before the batch at a place in the data: chooses the size of a loader that leaves it open, by
 * `trainer.bestBatchSize`; undefined where it stays.
 */
export async function chooseBatchSize(
  trainer: Trainer, batches: Batches, { epoch, batch }: Cursor,
): Promise<BatchSizeEvent | undefined> {
  if (!isAuto(batches)) return undefined;
  const hasMoved = batches.chosenFor === "wasm" && trainer.device.backend === "webgpu";
  if (batches.isChosen && !(hasMoved && batch === 0)) return undefined;
  const { x, y } = await batches.sample(TRIAL_SAMPLES);
  const limit = Math.min(LARGEST_TRIED, batches.samples);
  const { batchSize, stepMs, backend } = await trainer.bestBatchSize(x, y, { limit });
  batches.choose(batchSize, backend);
  return { kind: "batchSize", epoch, step: trainer.step, batchSize, stepMs };
}

/** What the record of a run says of the batches of an epoch. */
export function batchSizeOf(batches: Batches): Pick<RunRecord, "batchSize" | "batchSizeFor"> {
  if (!isAuto(batches)) return { batchSize: undefined, batchSizeFor: undefined };
  return { batchSize: batches.batchSize, batchSizeFor: batches.chosenFor };
}

/** The batches of a run that goes on, as its record says. */
export function restoreBatchSize({ log: { record } }: Trainer, batches: Batches): void {
  const { batchSize, batchSizeFor } = record;
  if (isAuto(batches) && batchSize !== undefined) batches.choose(batchSize, batchSizeFor);
}

function isAuto(batches: Batches): batches is DataLoader {
  return batches instanceof DataLoader && batches.isAuto;
}

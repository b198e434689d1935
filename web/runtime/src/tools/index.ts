/** hearth-tools.js: parts of the runtime that are loaded when they are first used. */

export { bind } from "../shared.ts";
export { findBatchSize } from "./batch-size.ts";
export { readCheckpoint, writeCheckpoint } from "./checkpoint.ts";
export { encodeDelta } from "./delta.ts";
export { inspectionOf } from "./inspection-of.ts";
export { sweepLearningRates } from "./learning-rate-finder.ts";
export { openBestStore } from "./open-store.ts";
export { addRecord, readRecord } from "./record-file.ts";
export { recover } from "./recovery.ts";

/**
 * What tools/ takes from the rest of the runtime.
 *
 * hearth-tools.js holds none of it and does not import hearth.js, which it might find a second time
 * under another address (hearth.js?v=2): hearth.js hands it over (`tools.ts`, `build.mjs`).
 */

export { LARGEST_TRIED } from "./auto-batch-size.ts";
export { batchesOf, isReadOnce } from "./data-loader.ts";
export { useDatabase } from "./database.ts";
export { elements } from "./dims.ts";
export { bytesOf } from "./elements.ts";
export {
  BackendError, BundleFormatError, InvalidInputError, NumericalInstabilityError, OutOfMemoryError,
  reasonOf, StorageError,
} from "./errors.ts";
export { scalarOf } from "./executor.ts";
export { areFinite } from "./finite.ts";
export { firstNonFinite } from "./first-non-finite.ts";
export { checkBatch, requireWhole } from "./inputs.ts";
export { INSPECT, under, uselessUnits } from "./inspection.ts";
export { endsStep } from "./journal.ts";
export { checkedRates } from "./learning-rate.ts";
export { isWeight } from "./manifest.ts";
export { largestBatchFor } from "./memory.ts";
export { parseOptimizer } from "./parse-manifest.ts";
export {
  concatenate, decodeSafetensors, encodeSafetensors, looksLikeSafetensors,
} from "./safetensors.ts";
export { sha256 } from "./sha256.ts";
export {
  isTrained, nonFiniteEntries, readEntry, requireTensor, valuesOf, writeEntries, writeSeed,
} from "./state.ts";
export { openIn } from "./store.ts";
export { plainTensors } from "./stored-weights.ts";

/** Hands over what is above; where both are one file there is nothing to do. */
export const bind: (shared: object) => void = () => undefined;

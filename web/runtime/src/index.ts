/**
 * hearth.js: the runtime of Hearth bundles, and its own worker.
 *
 * This very file is the page side, the worker that computes, and the helper threads: the name of
 * a worker says what it is.
 */

import { WORKER_NAME } from "./protocol.ts";
import { serveAsWorker } from "./server.ts";
import { workerName } from "./spawn.ts";
import { serveAsHelper, THREAD_NAME } from "./wasm-threads.ts";

export { Trainer, type TrainerOptions } from "./trainer.ts";
export {
  Engine, type EvaluateResult, type RunResult, type Scalars, type TrainResult,
  type WeightFormat,
} from "./engine.ts";
export type { Count, Counts } from "./counts.ts";
export { augment, augmented, type AugmentedOptions } from "./augmented.ts";
export type { EngineOptions } from "./open.ts";
export type { BackendChoice } from "./backends.ts";
export type { BatchSize, BatchSizeOptions } from "./tools/batch-size.ts";
export { fetchSource, type BundleSource } from "./bundle.ts";
export type { Comparison } from "./contest.ts";
export {
  ArrayDataset, DataLoader, Subset, type Batches, type DataLoaderOptions, type Dataset, type Loader,
  type LoaderProgress,
} from "./data-loader.ts";
export type { Backend, DeviceInfo } from "./device.ts";
export { earlyStopping, type EarlyStoppingOptions } from "./early-stopping.ts";
export type { Values } from "./elements.ts";
export type { Diagnosis } from "./tools/diagnosis.ts";
export type { ExplainOptions } from "./explain.ts";
export { firstNonFinite, type NonFinite } from "./first-non-finite.ts";
export { Fit, type Callback, type FitOptions } from "./fit.ts";
export type { BatchSizeEvent, FitEvent, StepReport } from "./fit-events.ts";
export type { RecoveryOptions } from "./recovery-options.ts";
export type { InputArray, Inputs } from "./inputs.ts";
export {
  uselessUnits, valueNames, widened, type Finding, type InspectOptions, type Inspection,
  type Layer, type ParameterView, type Summary,
} from "./inspection.ts";
export type { Schedule } from "./learning-rate.ts";
export {
  findLearningRate, type LearningRateFinderOptions, type LearningRates,
} from "./learning-rate-finder.ts";
export { reduceOnPlateau, type PlateauOptions } from "./plateau.ts";
export { schedules, type OneCycleOptions, type Rate } from "./schedules.ts";
export type { Manifest } from "./manifest.ts";
export {
  balancedWeights, classWeights, permutation, split, weightedDraws,
} from "./permutation.ts";
export type { Cursor, RunRecord, Validation } from "./run-record.ts";
export type { ResumeOptions } from "./resume.ts";
export type { KeepOptions, Saved, SaveOptions } from "./saved-runs.ts";
export { saving, type SavingOptions } from "./saving.ts";
export type { EngineEvent, Rescue } from "./session.ts";
export { openIn, openStore, type Store } from "./store.ts";
export type { Batch } from "./slice.ts";
export type { NameMap } from "./weights.ts";
export {
  BackendError, BundleFormatError, DeviceLostError, HearthError, InternalError, InvalidInputError,
  NumericalInstabilityError, OutOfMemoryError, StorageError, UnsupportedOpError,
} from "./errors.ts";

// What hearth-data.js takes from here besides: of use to other readers of data, too.
export { reasonOf } from "./errors.ts";
export { encodeName } from "./file-names.ts";
export { asList, requireWhole } from "./inputs.ts";
export {
  decodeSafetensors, encodeSafetensors, type Tensor, type TensorDtype, type TensorFile,
} from "./safetensors.ts";

if (workerName() === WORKER_NAME) serveAsWorker();
if (workerName() === THREAD_NAME) serveAsHelper();

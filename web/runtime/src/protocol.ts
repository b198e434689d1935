/**
 * What crosses between the page and the worker: the whole wire format.
 *
 * Every call has an id and exactly one reply.  Events come unasked.  Arrays of the user are copied
 * before they are sent; only copies are transferred.
 */

import type { BatchSize, BatchSizeOptions } from "./tools/batch-size.ts";
import type { BundleSource } from "./bundle.ts";
import type { DeviceInfo } from "./device.ts";
import type { Values } from "./elements.ts";
import type { EvaluateResult, RunResult, TrainResult, WeightFormat } from "./engine.ts";
import type { ErrorData } from "./errors.ts";
import type { InputArray, Inputs } from "./inputs.ts";
import type { RateTable } from "./learning-rate.ts";
import type { Manifest } from "./manifest.ts";
import type { EngineOptions } from "./open.ts";
import type { Recovered, RecoverRequest } from "./tools/recovery.ts";
import type { RunRecord } from "./run-record.ts";
import type { Bytes } from "./safetensors.ts";
import type { EngineEvent } from "./session.ts";
import type { Batch, SliceRequest, SliceResult } from "./slice.ts";
import type { NameMap } from "./weights.ts";

export const WORKER_NAME = "hearth-worker";

export interface Loaded {
  manifest: Manifest;
  device: DeviceInfo;
  learningRates: readonly number[];
  schedule: RateTable | undefined;
  step: number;
}

/** The call needs no argument. */
export type Nothing = Readonly<Record<string, never>>;

/** Every call: what it takes and what it gives. */
export interface Calls {
  /** A source with functions never crosses: it is for engines without a worker. */
  load: { takes: { source: string | BundleSource; options: EngineOptions }; gives: Loaded };
  train: { takes: Batch; gives: TrainResult };
  trainSlice: { takes: SliceRequest; gives: SliceResult };
  recover: { takes: RecoverRequest; gives: Recovered };
  findBatchSize: { takes: Batch & { options: BatchSizeOptions }; gives: BatchSize };
  evaluate: { takes: Batch; gives: EvaluateResult };
  predict: { takes: { x: Inputs }; gives: Float32Array };
  gradients: { takes: Batch; gives: Record<string, Values> };
  run: {
    takes: {
      program: string; inputs: Readonly<Record<string, InputArray>>;
      names: readonly string[] | undefined;
    };
    gives: RunResult;
  };
  setLearningRates: { takes: { rates: readonly number[] }; gives: undefined };
  exportWeights: { takes: { format: WeightFormat }; gives: Uint8Array };
  loadWeights: { takes: { bytes: Uint8Array; names: NameMap | undefined }; gives: undefined };
  exportCheckpoint: { takes: Nothing; gives: { bytes: Bytes; step: number } };
  loadCheckpoint: {
    takes: { bytes: Uint8Array };
    gives: { step: number; learningRates: number[]; record: RunRecord | undefined };
  };
  dispose: { takes: Nothing; gives: undefined };
}

export type CallKind = keyof Calls;

/** A call without its id. */
export type Call = { [K in CallKind]: { kind: K } & Calls[K]["takes"] }[CallKind];

export type Request = { id: number; call: Call };

export type Reply =
  | { kind: "done"; id: number; value: unknown }
  | { kind: "failed"; id: number; error: ErrorData };

export type Message = Reply | EngineEvent;

/** The memory that a reply can give away: every buffer in it belongs to that reply alone. */
export function buffersIn(value: unknown): ArrayBuffer[] {
  if (ArrayBuffer.isView(value)) {
    return value.buffer instanceof ArrayBuffer ? [value.buffer] : [];
  }
  if (value instanceof ArrayBuffer) return [value];
  if (typeof value !== "object" || value === null) return [];
  return [...new Set(Object.values(value).flatMap(buffersIn))];
}

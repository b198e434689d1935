/**
 * What a training run knows of itself besides its state: where in the data it is, and its history.
 *
 * It travels inside the checkpoint (spec/manifest.md), so that a run goes on in the middle of an
 * epoch with its curves.
 */

import { bytesOf } from "./elements.ts";
import type { Scalars } from "./engine.ts";
import { BundleFormatError } from "./errors.ts";
import {
  decodeSafetensors, encodeSafetensors, type Bytes, type Tensor,
} from "./safetensors.ts";

const LOSSES = "hearth/losses";
const METADATA = "run";
const SOURCE = "the checkpoint";

/** The next batch of a run. */
export interface Cursor {
  /** Completed epochs. */
  readonly epoch: number;
  /** Completed batches of the epoch that has begun. */
  readonly batch: number;
}

/** What the history keeps of a validation: no counts. */
export interface Validation extends Scalars {
  /** Completed training steps. */
  step: number;
}

export interface RunRecord {
  /** Completed epochs. */
  epoch: number;
  /** Completed steps when the epoch began. */
  epochStep: number;
  /** Batches of the epoch before that: of a run that went on with another number a step. */
  epochBatch: number;
  /** Batches that a step of the epoch takes. */
  stepBatches: number;
  /** The losses of `fit`, one after another; the last is of step `lossStep`. */
  losses: number[];
  lossStep: number;
  validations: Validation[];
  /** Whether the epoch that ended last is still to be validated. */
  owesValidation: boolean;
  /** What the rates of the schedule are multiplied with, after steps that went wrong. */
  rateScale: number;
}

/** What stands in the metadata; the losses are a tensor. */
type Stored = Omit<RunRecord, "losses"> & { bundle: string | undefined };

export function newRecord(step: number): RunRecord {
  return {
    epoch: 0, epochStep: step, epochBatch: 0, stepBatches: 1, losses: [], lossStep: step,
    validations: [], owesValidation: false, rateScale: 1,
  };
}

/** Appends losses; of a run that also trained outside `fit` the last unbroken stretch is kept. */
export function noteLosses(
  record: RunRecord, steps: readonly { step: number; loss: number }[],
): void {
  for (const { step, loss } of steps) {
    if (step !== record.lossStep + 1) record.losses = [];
    record.losses.push(loss);
    record.lossStep = step;
  }
}

/** A checkpoint with the record of its run up to its step; `bundle` is the URL of the model. */
export function addRecord(
  checkpoint: Bytes, record: RunRecord, step: number, bundle: string | undefined,
): Bytes {
  const { tensors, metadata } = decodeSafetensors(checkpoint, SOURCE);
  const { losses, lossStep, validations, ...rest } = record;
  const values = Float32Array.from(losses.slice(0, losses.length - Math.max(0, lossStep - step)));
  const run: Stored = {
    ...rest, lossStep: Math.min(lossStep, step), bundle,
    validations: validations.filter((validation) => validation.step <= step),
  };
  const tensor: Tensor = { dtype: "F32", shape: [values.length], data: bytesOf(values) };
  return encodeSafetensors(new Map([...tensors, [LOSSES, tensor]]),
    { ...metadata, [METADATA]: JSON.stringify(run) });
}

/** The record in a checkpoint; undefined where none was written, as by PyTorch's side. */
export function readRecord(
  checkpoint: Uint8Array,
): { record: RunRecord; bundle: string | undefined } | undefined {
  const { tensors, metadata } = decodeSafetensors(checkpoint, SOURCE);
  const text = metadata[METADATA];
  if (text === undefined) return undefined;
  const stored = parse(text);
  const tensor = tensors.get(LOSSES);
  if (!stored || tensor?.dtype !== "F32") {
    throw new BundleFormatError(`${SOURCE}: its record of the run is damaged`);
  }
  const { bundle, ...rest } = stored;
  const losses = [...new Float32Array(tensor.data.slice().buffer)];
  return { record: { ...rest, losses }, bundle };
}

function parse(text: string): Stored | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { epoch, epochStep, lossStep, validations, bundle } = value as Record<string, unknown>;
  const { owesValidation = false, rateScale = 1 } = value as Record<string, unknown>;
  const { epochBatch = 0, stepBatches = 1 } = value as Record<string, unknown>;
  const whole = (n: unknown): n is number => Number.isInteger(n) && Number(n) >= 0;
  if (!whole(epoch) || !whole(epochStep) || !whole(lossStep)) return undefined;
  if (!whole(epochBatch) || !whole(stepBatches) || stepBatches === 0) return undefined;
  if (!Array.isArray(validations) || !validations.every(isValidation)) return undefined;
  if (bundle !== undefined && typeof bundle !== "string") return undefined;
  if (typeof owesValidation !== "boolean" || typeof rateScale !== "number") return undefined;
  return {
    epoch, epochStep, epochBatch, stepBatches, lossStep, validations, owesValidation, rateScale,
    bundle,
  };
}

function isValidation(value: unknown): value is Validation {
  if (typeof value !== "object" || value === null) return false;
  const { step, loss, metrics } = value as Record<string, unknown>;
  // JSON has no NaN: a loss that was none comes back as null.
  return typeof step === "number" && (typeof loss === "number" || loss === null)
    && typeof metrics === "object" && metrics !== null;
}

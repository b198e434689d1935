/** The record of a run inside its checkpoint (spec/manifest.md, "Checkpoint"). */

import type { Backend } from "../device.ts";
import { bytesOf } from "../elements.ts";
import { BundleFormatError } from "../errors.ts";
import type { RunRecord, Validation } from "../run-record.ts";
import {
  decodeSafetensors, encodeSafetensors, type Bytes, type Tensor,
} from "../safetensors.ts";

const LOSSES = "hearth/losses";
const METRICS = "hearth/metrics";
const BEST = "hearth/best";
const METADATA = "run";
const SOURCE = "the checkpoint";

/** What stands in the metadata, of metrics their names; what steps tell is in tensors. */
type Stored = Omit<RunRecord, "losses" | "metrics" | "best"> & {
  metrics: readonly string[]; bundle: string | undefined; bestStep: number | undefined;
};

/** A checkpoint with the record of its run up to its step; `bundle` is the URL of the model. */
export function addRecord(
  checkpoint: Bytes, record: RunRecord, step: number, bundle: string | undefined,
): Bytes {
  const { tensors, metadata } = decodeSafetensors(checkpoint, SOURCE);
  const { losses, lossStep, metrics, validations, best: newest, ...rest } = record;
  const best = newest && newest.step <= step ? newest : undefined;
  const count = Math.max(0, losses.length - Math.max(0, lossStep - step));
  const run: Stored = {
    ...rest, lossStep: Math.min(lossStep, step), metrics: Object.keys(metrics),
    bundle, bestStep: best?.step,
    validations: validations.filter((validation) => validation.step <= step),
  };
  const numbers = (lists: readonly number[][], shape: number[]): Tensor => {
    const values = Float32Array.from(lists.flatMap((list) => list.slice(0, count)));
    return { dtype: "F32", shape, data: bytesOf(values) };
  };
  const added = new Map([...tensors, [LOSSES, numbers([losses], [count])]]);
  const lists = Object.values(metrics);
  if (lists.length > 0) added.set(METRICS, numbers(lists, [lists.length, count]));
  if (best) added.set(BEST, { dtype: "U8", shape: [best.weights.length], data: best.weights });
  return encodeSafetensors(added, { ...metadata, [METADATA]: JSON.stringify(run) });
}

/** The record in a checkpoint; undefined where none was written, as by PyTorch's side. */
export function readRecord(
  checkpoint: Uint8Array,
): { record: RunRecord; bundle: string | undefined } | undefined {
  const { tensors, metadata } = decodeSafetensors(checkpoint, SOURCE);
  const text = metadata[METADATA];
  if (text === undefined) return undefined;
  const stored = parse(text);
  const losses = numbersOf(tensors.get(LOSSES));
  const names = stored?.metrics ?? [];
  const told = names.length > 0 ? numbersOf(tensors.get(METRICS)) : [];
  if (!stored || !losses || told?.length !== names.length * losses.length) {
    throw new BundleFormatError(`${SOURCE}: its record of the run is damaged`);
  }
  const { bundle, bestStep, ...rest } = stored;
  const metrics = Object.fromEntries(names.map((name, i) =>
    [name, told.slice(i * losses.length, (i + 1) * losses.length)]));
  const weights = tensors.get(BEST)?.data.slice();
  const best = weights && bestStep !== undefined ? { step: bestStep, weights } : undefined;
  return { record: { ...rest, losses, metrics, best }, bundle };
}

function numbersOf(tensor: Tensor | undefined): number[] | undefined {
  return tensor?.dtype === "F32" ? [...new Float32Array(tensor.data.slice().buffer)] : undefined;
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
  const { metrics = [] } = value as Record<string, unknown>;
  const { owesValidation = false, rateScale = 1 } = value as Record<string, unknown>;
  const { epochBatch = 0, stepBatches = 1 } = value as Record<string, unknown>;
  const { runStep = 0, batchSize, batchSizeFor, bestStep } = value as Record<string, unknown>;
  const whole = (n: unknown): n is number => Number.isInteger(n) && Number(n) >= 0;
  if (!whole(epoch) || !whole(epochStep) || !whole(lossStep)) return undefined;
  if (!whole(epochBatch) || !whole(stepBatches) || stepBatches === 0) return undefined;
  if (!whole(runStep) || !(bestStep === undefined || whole(bestStep))) return undefined;
  if (!(batchSize === undefined || whole(batchSize) && batchSize > 0)) return undefined;
  if (!Array.isArray(validations) || !validations.every(isValidation)) return undefined;
  if (!Array.isArray(metrics) || !metrics.every((m) => typeof m === "string")) return undefined;
  if (!isBackend(batchSizeFor)) return undefined;
  if (bundle !== undefined && typeof bundle !== "string") return undefined;
  if (typeof owesValidation !== "boolean" || typeof rateScale !== "number") return undefined;
  return {
    runStep, batchSize, batchSizeFor, epoch, epochStep, epochBatch, stepBatches, lossStep,
    metrics, validations: validations.map(withNaN), owesValidation, rateScale, bestStep, bundle,
  };
}

function isBackend(value: unknown): value is Backend | undefined {
  return value === undefined || value === "wasm" || value === "webgpu";
}

function isValidation(value: unknown): value is Validation {
  if (typeof value !== "object" || value === null) return false;
  const { step, loss, metrics } = value as Record<string, unknown>;
  return typeof step === "number" && (typeof loss === "number" || loss === null)
    && typeof metrics === "object" && metrics !== null;
}

/** JSON has no NaN: a number that was none comes back as null. */
function withNaN({ step, loss, metrics }: Validation): Validation {
  const number = (value: number | null): number => value ?? NaN;
  const entries = Object.entries(metrics).map(([name, value]) => [name, number(value)] as const);
  return { step, loss: number(loss), metrics: Object.fromEntries(entries) };
}

/**
 * The golden step: a recorded step replayed on this very device before it is trusted.
 *
 * Some GPUs return wrong or zero gradients silently.  Here such a device is found out, before a
 * person's training is.  The state is changed; the caller restores it.
 */

import { TENSOR_DTYPES, type Values } from "./elements.ts";
import { BackendError, BundleFormatError } from "./errors.ts";
import type { Executor, Result } from "./executor.ts";
import type { InputArray, Argument } from "./inputs.ts";
import type { FileDtype, Input, Program } from "./manifest.ts";
import type { Tensor, TensorFile } from "./safetensors.ts";
import { readEntry, spanOf } from "./state.ts";

const MAX_SAMPLES = 4096;
const RELATIVE_TOLERANCE = 1e-3;
const SLACK = { fast: 1e-5, strict: 1e-6 }; // by the accuracy of the bundle

/** How far a value may be off: relative to the largest of its tensor, and on top. */
interface Tolerance {
  relative: number;
  /** Of single tensors, by name. */
  own: Readonly<Record<string, number>>;
  slack: number;
}

/** Replays `gradients` and `train`; BackendError names the value in which the device errs. */
export async function replayGolden(executor: Executor, golden: TensorFile): Promise<void> {
  const { programs, accuracy, golden: recording } = executor.manifest;
  const tolerance = {
    relative: recording?.tolerance ?? RELATIVE_TOLERANCE, own: recording?.tolerances ?? {},
    slack: SLACK[accuracy ?? "strict"],
  };
  for (const name of ["gradients", "train"]) {
    const program = programs[name];
    if (!program) continue;
    const { results } = await executor.start(name, recorded(program, golden));
    for (const result of await results) compareResult(result, golden, tolerance);
  }
  if (programs["train"]) await compareParameters(executor, golden, tolerance);
}

/** The recorded batch as arguments of a program. */
function recorded(program: Program, golden: TensorFile): Argument[] {
  const next = { input: 0, target: 0 };
  return program.inputs.flatMap((entry) => {
    if (entry.role === "hyper") return [];
    const label = `${entry.role}/${String(next[entry.role]++)}`;
    const tensor = golden.tensors.get(label);
    if (!tensor) throw new BundleFormatError(`the golden step has no ${label}`);
    return [{ entry, label, data: recordedArray(entry, tensor, label) }];
  });
}

const ARRAYS: Readonly<Record<FileDtype, new (buffer: ArrayBuffer) => InputArray>> = {
  float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint32: Uint32Array,
  bool: Uint8Array,
};

function recordedArray({ dtype }: Input, tensor: Tensor, label: string): InputArray {
  if (tensor.dtype !== TENSOR_DTYPES[dtype]) {
    throw new BundleFormatError(`golden step: ${label} is ${tensor.dtype}, expected ${dtype}`);
  }
  return new ARRAYS[dtype](tensor.data.slice().buffer);
}

function compareResult(
  { output, values }: Result, golden: TensorFile, tolerance: Tolerance,
): void {
  if (output.role === "loss") compare("loss", values, golden, tolerance);
  if (output.role === "gradient") compare(`gradient/${output.name}`, values, golden, tolerance);
}

async function compareParameters(
  { manifest, device }: Executor, golden: TensorFile, tolerance: Tolerance,
) {
  const entries = manifest.state.filter(({ role }) => role === "parameter");
  const span = spanOf(entries);
  const image = await device.readState(span);
  for (const entry of entries) {
    if (entry.dtype !== "float32") continue;
    const { data } = readEntry(image, entry, span.offset);
    compare(`parameter/${entry.name}`, new Float32Array(data.slice().buffer), golden, tolerance);
  }
}

/** Compares a tensor with the recorded samples: element i·⌈n/4096⌉ for i = 0, 1, … */
function compare(
  name: string, ours: Values, golden: TensorFile, { relative, own, slack }: Tolerance,
): void {
  const tensor = golden.tensors.get(name);
  if (!tensor) return;
  const stride = Math.ceil(ours.length / MAX_SAMPLES) || 1;
  const wanted = new Float32Array(tensor.data.slice().buffer);
  if (tensor.dtype !== "F32" || wanted.length !== Math.ceil(ours.length / stride)) {
    throw new BundleFormatError(`golden step: ${name} is not the samples of a tensor with \
${String(ours.length)} elements`);
  }
  const largest = wanted.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  const tolerance = (own[name] ?? relative) * largest + slack;
  const bad = wanted.findIndex((v, i) => !(Math.abs((ours[i * stride] ?? NaN) - v) <= tolerance));
  if (bad < 0) return;
  const [found, expected] = [ours[bad * stride], wanted[bad]].map(String);
  throw new BackendError("the device computes wrong numbers in the recorded step", {
    where: `${name}, element ${String(bad * stride)}`,
    why: `it gives ${found ?? ""}, PyTorch ${expected ?? ""}`,
  });
}

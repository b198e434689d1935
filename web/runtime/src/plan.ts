/**
 * Where every buffer of a bundle lies for one batch size (spec/manifest.md, "Buffers and memory").
 *
 * The compiler decided which buffers share a slot; this evaluates the sizes for an actual batch.
 * It allocates nothing.
 *
 *     arena:  [ state region ][ slots of the program that needs most ]
 */

import { elements, evaluate, largestBatch } from "./dims.ts";
import { InternalError, OutOfMemoryError } from "./errors.ts";
import type { Manifest, Program } from "./manifest.ts";

export const ALIGNMENT_BYTES = 256;
export const ELEMENT_BYTES = 4;
export const HALF_BYTES = 2;

/** Byte offsets from the start of the arena, for batches up to `batch`. */
export interface MemoryPlan {
  readonly batch: number;
  readonly slots: Readonly<Record<string, readonly number[]>>;
  readonly arenaBytes: number;
}

/** The plan for `batch` samples; it serves every smaller batch too. */
export function planMemory(manifest: Manifest, batch: number): MemoryPlan {
  const slots: Record<string, number[]> = {};
  let arenaBytes = align(manifest.state_bytes);
  for (const [name, program] of Object.entries(manifest.programs)) {
    const starts: number[] = [];
    const ends: number[] = [];
    for (const [k, bytes] of slotBytes(program, batch).entries()) {
      const below = program.above?.[k] ?? (k > 0 ? [k - 1] : []);
      const start = Math.max(align(manifest.state_bytes), ...below.map((slot) => ends[slot] ?? 0));
      starts.push(start);
      ends.push(start + bytes);
    }
    slots[name] = starts;
    arenaBytes = Math.max(arenaBytes, ...ends);
  }
  return { batch, slots, arenaBytes };
}

/** Bytes of each slot of a program: 256 for an empty one, as WebGPU binds no empty range. */
function slotBytes(program: Program, batch: number): number[] {
  return program.slots.map((sizes) =>
    align(Math.max(1, ...sizes.map((size) => evaluate(size, batch)))));
}

/** Where a buffer that `program` touches begins, in bytes from the start of the arena. */
export function offsetOf(
  plan: MemoryPlan, manifest: Manifest, program: string, buffer: number,
): number {
  const entry = manifest.buffers[buffer];
  const offset = entry?.offset ?? plan.slots[program]?.[entry?.slot ?? -1];
  if (offset === undefined) throw new InternalError(`buffer ${String(buffer)} has no place`);
  return offset;
}

/** Bytes that one buffer occupies on a device. */
export function bufferBytes(manifest: Manifest, buffer: number, batch: number): number {
  const { shape = [], elementBytes = ELEMENT_BYTES } = manifest.buffers[buffer] ?? {};
  return elementBytes * elements(shape, batch);
}

/** The largest batch size whose arena has at most `limitBytes`, or 0. */
export function largestBatchWithin(manifest: Manifest, limitBytes: number): number {
  return largestBatch((batch) => planMemory(manifest, batch).arenaBytes <= limitBytes);
}

/** The error of a plan that a device has no memory for, with a batch size to use instead. */
export function outOfMemory(
  { batch, arenaBytes }: Pick<MemoryPlan, "batch" | "arenaBytes">, device: string,
  suggestedBatchSize: number,
): OutOfMemoryError {
  const needed = `a batch of ${String(batch)} needs ${String(arenaBytes)} bytes`;
  return new OutOfMemoryError(`${needed}, which ${device} does not give`, {
    remedy: suggestedBatchSize > 0 ? `use at most ${String(suggestedBatchSize)} samples per batch`
      : "the model does not fit at all: compile it with less memory, or use another backend",
    suggestedBatchSize,
  });
}

/** The buffers that a program touches, each once, in the order of first use. */
export function buffersOf(program: Program): number[] {
  const used = [...program.inputs, ...program.outputs].map(({ buffer }) => buffer);
  return [...new Set([...program.steps.flatMap((step) => step.buffers), ...used])];
}

/** The next multiple of 256: what WebGPU asks of the offset of a storage binding. */
export function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/**
 * Where every buffer of a bundle lies for one batch size (spec/manifest.md, "Buffers and memory").
 *
 * The compiler decided which buffers share a slot; this evaluates the sizes for an actual batch.
 * It allocates nothing.
 *
 *     arena:  [ state region ][ slots of the program that needs most ]
 *
 * A device whose buffers are smaller than that has it in pages: whole numbers of bindings each, so
 * that no buffer of the bundle lies in two.
 */

import { elements, evaluate, largestBatch } from "./dims.ts";
import { InternalError, OutOfMemoryError } from "./errors.ts";
import type { Manifest, Program } from "./manifest.ts";

export const ALIGNMENT_BYTES = 256;
export const ELEMENT_BYTES = 4;
export const HALF_BYTES = 2;

/** Bytes of a page, where all of the arena is one. */
export const UNLIMITED = 2 ** 52;

/** A part of the arena that a device allocates by itself. */
export interface Page {
  readonly start: number;
  readonly bytes: number;
}

/**
 * Byte offsets from the start of the arena, for batches up to `batch`.  Between two pages there
 * may be offsets at which nothing lies, and which take no memory.
 */
export interface MemoryPlan {
  readonly batch: number;
  readonly slots: Readonly<Record<string, readonly number[]>>;
  readonly pages: readonly Page[];
  /** Of all pages. */
  readonly arenaBytes: number;
}

/**
 * The plan for `batch` samples; it serves every smaller batch too.  `pageBytes`, a multiple of 256,
 * is the most that the device gives in one piece.
 */
export function planMemory(
  manifest: Manifest, batch: number, pageBytes = UNLIMITED,
): MemoryPlan {
  const begins = statePages(manifest, pageBytes);
  const base = begins.at(-1) ?? 0; // from here on a page may begin at every multiple of pageBytes
  const behind = align(manifest.state_bytes);
  const used = new Map(begins.map((begin, i) => [begin, begins[i + 1] ?? behind]));
  const slots: Record<string, number[]> = {};
  for (const [name, program] of Object.entries(manifest.programs)) {
    const ends: number[] = [];
    slots[name] = slotBytes(program, batch).map((bytes, k) => {
      const below = program.above?.[k] ?? (k > 0 ? [k - 1] : []);
      let start = Math.max(behind, ...below.map((slot) => ends[slot] ?? 0));
      const room = pageBytes - (start - base) % pageBytes;
      if (bytes > room) start += room;
      const page = start - (start - base) % pageBytes;
      ends.push(start + bytes);
      used.set(page, Math.max(used.get(page) ?? 0, start + bytes));
      return start;
    });
  }
  const pages = [...used].sort(([a], [b]) => a - b)
    .map(([start, end]) => ({ start, bytes: end - start }));
  const arenaBytes = pages.reduce((sum, { bytes }) => sum + bytes, 0);
  return { batch, slots, pages, arenaBytes };
}

/** Where pages begin in the state region: between the buffers of kernels, as late as can be. */
function statePages(manifest: Manifest, pageBytes: number): number[] {
  const behind = align(manifest.state_bytes);
  const begins = [0];
  let begin = 0;
  for (const [first, last] of [...stateBlocks(manifest), [behind, behind] as const]) {
    while (last - begin > pageBytes && first > begin) {
      begin = Math.min(first, begin + pageBytes);
      begins.push(begin);
    }
  }
  return begins;
}

/** What stays together: buffers that share memory, as a parameter and its group do. */
function stateBlocks(manifest: Manifest): [number, number][] {
  const ranges = manifest.buffers.flatMap(({ offset }, i): [number, number][] =>
    (offset === undefined ? [] : [[
      offset - offset % ALIGNMENT_BYTES, align(offset + bufferBytes(manifest, i, 1)),
    ]])).sort(([a], [b]) => a - b);
  const blocks: [number, number][] = [];
  for (const [first, last] of ranges) {
    const block = blocks.at(-1);
    if (block && first < block[1]) block[1] = Math.max(block[1], last);
    else blocks.push([first, last]);
  }
  return blocks;
}

/** The page in which an offset lies. */
function pageOf({ pages }: MemoryPlan, offset: number): number {
  const next = pages.findIndex(({ start }) => start > offset);
  return (next < 0 ? pages.length : next) - 1;
}

/** The page in which a buffer that `program` touches lies, and its offset from the start of it. */
export function placeOf(
  plan: MemoryPlan, manifest: Manifest, program: string, buffer: number,
): { page: number; offset: number } {
  const offset = offsetOf(plan, manifest, program, buffer);
  const page = pageOf(plan, offset);
  return { page, offset: offset - (plan.pages[page]?.start ?? 0) };
}

/** A part of a span of the arena that lies in one page. */
export interface Part {
  page: number;
  /** From the start of the page. */
  offset: number;
  /** From the start of the span. */
  from: number;
  bytes: number;
}

/** A span of the arena, such as the whole state, page by page. */
export function partsOf(plan: MemoryPlan, offset: number, bytes: number): Part[] {
  const end = offset + bytes;
  return plan.pages.flatMap(({ start }, page) => {
    const first = Math.max(offset, start);
    const last = Math.min(end, plan.pages[page + 1]?.start ?? end);
    return last > first
      ? [{ page, offset: first - start, from: first - offset, bytes: last - first }] : [];
  });
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

/** The manifest as a device sees it that stores halves as such. */
export function withHalves(manifest: Manifest): Manifest {
  const buffers = manifest.buffers.map((buffer) =>
    (buffer.half ? { ...buffer, elementBytes: HALF_BYTES } : buffer));
  const programs = Object.fromEntries(Object.entries(manifest.programs).map(([name, program]) =>
    [name, { ...program, slots: program.half_slots ?? program.slots }]));
  return { ...manifest, buffers, programs };
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

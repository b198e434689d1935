/**
 * What training takes on a device, to the byte and before anything is allocated; and the budget.
 *
 * WebAssembly: the length of its memory, with the table of buffers, the scratch memory of all
 * threads and the arena.  WebGPU: the sizes of all buffers while it trains: the pages of the arena
 * (with halves in as many bytes as the adapter stores them in), the batch size, and the ring that
 * losses come back through.  The only place of this arithmetic.
 */

import type { Backend } from "./device.ts";
import { evaluate, largestBatch, type Extent } from "./dims.ts";
import { OutOfMemoryError } from "./errors.ts";
import { largestBindable } from "./large-tensors.ts";
import type { Manifest } from "./manifest.ts";
import { align, ALIGNMENT_BYTES, planMemory, withHalves } from "./plan.ts";

export const PAGE_BYTES = 65536;
/** Of the table of buffers in WebAssembly memory. */
export const TABLE = 2048;
export const UNIFORM_BYTES = 16;
/** The ring of small staging buffers. */
export const RING = 3;
export const SMALL_BYTES = 1024;

/** What a page may spend on training where it says nothing else. */
export const DEFAULT_MEMORY_BYTES = 256 * 2 ** 20;

/** A device, as far as its memory is concerned. */
export interface MemoryKind {
  readonly backend: Backend;
  readonly threads: number;
  /** On WebGPU: what kernels in two phases leave between them, in bytes. */
  readonly scratch?: readonly Extent[];
  /** On WebGPU: whether float16 numbers take two bytes. */
  readonly halves?: boolean;
  /** On WebGPU: the most that lies in one buffer. */
  readonly pageBytes?: number;
}

/** Exactly what a device takes to train on batches of up to `batch` samples. */
export function neededBytes(manifest: Manifest, batch: number, kind: MemoryKind): number {
  const stored = kind.halves ? withHalves(manifest) : manifest;
  const { arenaBytes } = planMemory(stored, batch, kind.pageBytes);
  if (kind.backend === "webgpu") {
    const between = (kind.scratch ?? []).map((size) => evaluate(size, batch));
    const arena = arenaBytes + align(Math.max(0, ...between));
    return Math.max(arena, ALIGNMENT_BYTES) + UNIFORM_BYTES + RING * SMALL_BYTES;
  }
  const { arena } = wasmLayout(manifest, kind.threads);
  return Math.ceil((arena + arenaBytes) / PAGE_BYTES) * PAGE_BYTES;
}

/** Where scratch memory and the arena begin in WebAssembly memory. */
export function wasmLayout(
  manifest: Manifest, threads: number,
): { scratch: number; arena: number } {
  const scratch = align(TABLE + 4 * manifest.buffers.length);
  return { scratch, arena: align(scratch + threads * (manifest.wasm?.scratch_bytes ?? 0)) };
}

/** The largest batch size that fits into a number of bytes, or 0. */
export function largestBatchFor(manifest: Manifest, bytes: number, kind: MemoryKind): number {
  const { halves, pageBytes } = kind;
  const most = pageBytes === undefined ? Infinity
    : largestBindable(halves ? withHalves(manifest) : manifest, pageBytes);
  return Math.min(most, largestBatch((batch) => neededBytes(manifest, batch, kind) <= bytes));
}

/** Raises OutOfMemoryError, with the batch size that fits, where a batch exceeds the budget. */
export function requireBudget(
  manifest: Manifest, batch: number, kind: MemoryKind, budgetBytes: number,
): void {
  const needed = neededBytes(manifest, batch, kind);
  if (needed <= budgetBytes) return;
  const fitting = largestBatchFor(manifest, budgetBytes, kind);
  const smaller = fitting > 0 ? `use at most ${String(fitting)} samples per batch, or` : "";
  throw new OutOfMemoryError(
    `a batch of ${String(batch)} needs ${String(needed)} bytes, and the budget is \
${String(budgetBytes)}`,
    {
      remedy: `${smaller} load with memoryBytes: ${String(needed)}`.trim(),
      suggestedBatchSize: fitting,
    },
  );
}

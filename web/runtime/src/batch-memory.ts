/**
 * The memory of batches that the engine has done with, for the batches that follow.
 *
 * Memory that is new comes page by page from the system, which takes longer than to copy a batch
 * there, and stops the thread that trains, too.
 */

import type { InputArray } from "./inputs.ts";

const MOST_BYTES = 32 * 2 ** 20;
const FEWEST_BYTES = 16384; // less is not worth its way back to the page

export class BatchMemory {
  private readonly spare = new Map<number, ArrayBuffer[]>();
  private bytes = 0;

  /** Keeps memory for `take`; where it gets too much, what was there goes: its sizes may be old. */
  give(buffers: readonly ArrayBuffer[]): void {
    for (const buffer of buffers) {
      if (this.bytes + buffer.byteLength > MOST_BYTES) this.clear();
      const same = this.spare.get(buffer.byteLength) ?? [];
      this.spare.set(buffer.byteLength, same);
      same.push(buffer);
      this.bytes += buffer.byteLength;
    }
  }

  /** Memory of exactly this size, if there is some; the caller's from then on. */
  take(bytes: number): ArrayBuffer | undefined {
    const buffer = this.spare.get(bytes)?.pop();
    this.bytes -= buffer?.byteLength ?? 0;
    return buffer;
  }

  clear(): void {
    this.spare.clear();
    this.bytes = 0;
  }
}

/** The memory of arrays that are not needed any more, where it is worth to be used again. */
export function memoryOf(arrays: readonly InputArray[]): ArrayBuffer[] {
  return arrays.flatMap((array) => {
    if (!ArrayBuffer.isView(array) || array.byteLength < FEWEST_BYTES) return [];
    const { buffer, byteLength } = array;
    return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
  });
}

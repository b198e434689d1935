/**
 * Staging buffers for results: a ring of small ones, so that several steps can be in flight, and
 * one large one for predictions and gradients.
 *
 * A buffer is taken before a step is encoded and comes back when its values have been read.
 */

import { RING, SMALL_BYTES } from "./memory.ts";
import type { Bytes } from "./safetensors.ts";

/** A range of a buffer that is to be read. */
export interface ArenaRange {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** Ranges with the staging buffer that they are read through. */
export interface Staged {
  readonly group: readonly ArenaRange[];
  readonly bytes: number;
  readonly staging: GPUBuffer;
}

/** The ranges, as many together as one staging buffer may hold; at least one group. */
export function groupRanges(sources: readonly ArenaRange[], limitBytes: number): ArenaRange[][] {
  let room = limitBytes;
  const groups: ArenaRange[][] = [[]];
  for (const source of sources) {
    if (source.bytes > room) {
      groups.push([]);
      room = limitBytes;
    }
    groups.at(-1)?.push(source);
    room -= source.bytes;
  }
  return groups;
}

/** Copies ranges into a staging buffer, one behind the other. */
export function copyRanges(
  encoder: GPUCommandEncoder, group: readonly ArenaRange[], staging: GPUBuffer,
): void {
  let position = 0;
  for (const { buffer, offset, bytes } of group) {
    if (bytes > 0) encoder.copyBufferToBuffer(buffer, offset, staging, position, bytes);
    position += bytes;
  }
}

/** The bytes of each range. */
export function splitRanges(bytes: Bytes, group: readonly ArenaRange[]): Bytes[] {
  let position = 0;
  return group.map((source) => bytes.slice(position, position += source.bytes));
}

/** The ranges as one. */
export function joinRanges(parts: readonly Bytes[]): Bytes {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}

export class Readback {
  private readonly small: GPUBuffer[] = [];
  private readonly waiting: ((buffer: GPUBuffer) => void)[] = [];
  private large: GPUBuffer | undefined;

  constructor(private readonly device: GPUDevice) {
    for (let i = 0; i < RING; i++) this.small.push(this.create(SMALL_BYTES));
  }

  /** A free buffer of at least `bytes`; waits for one when all small ones are in flight. */
  async take(bytes: number): Promise<GPUBuffer> {
    if (bytes <= SMALL_BYTES) {
      return this.small.pop() ?? new Promise((resolve) => { this.waiting.push(resolve); });
    }
    const cached = this.large;
    this.large = undefined;
    if (cached && cached.size >= bytes) return cached;
    cached?.destroy();
    return this.create(bytes);
  }

  /** The first `bytes` of a buffer that the GPU has been told to fill; gives the buffer back. */
  async read(buffer: GPUBuffer, bytes: number): Promise<Bytes> {
    try {
      if (bytes === 0) return new Uint8Array(0);
      await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
      const result = new Uint8Array(buffer.getMappedRange(0, bytes)).slice();
      buffer.unmap();
      return result;
    } finally {
      this.release(buffer);
    }
  }

  /** Gives a buffer back that was taken and not read. */
  release(buffer: GPUBuffer): void {
    if (buffer.size > SMALL_BYTES) {
      if (this.large) buffer.destroy();
      else this.large = buffer;
      return;
    }
    const next = this.waiting.shift();
    if (next) next(buffer);
    else this.small.push(buffer);
  }

  private create(size: number): GPUBuffer {
    return this.device.createBuffer({
      label: "readback", size: Math.ceil(size / 8) * 8,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }
}

/**
 * What a backend can do: hold the arena of one bundle and run its programs.
 *
 * A device is not a tensor library: it knows no shapes of the user, no dtypes of files, no names
 * of weights, and it checks no input.  It sees byte offsets and four-byte elements.  Calls arrive
 * one at a time and in order; results may be still on their way when the next call comes.
 */

import type { Extent } from "./dims.ts";
import type { Feed } from "./inputs.ts";
import type { Bytes } from "./safetensors.ts";
import type { Span } from "./state.ts";

export type Backend = "webgpu" | "wasm";

/** What computes, for people and for tests. */
export interface DeviceInfo {
  readonly backend: Backend;
  /** Threads that compute; 1 on WebGPU. */
  readonly threads: number;
  /** The graphics adapter, or the WebAssembly features in use. */
  readonly adapter: string;
  /** On WebGPU: "general", "measured", or the variant of the kernels. */
  readonly kernels?: string;
  /** The largest batch that memory is planned for; a larger one makes a new plan. */
  readonly batchSize: number;
  /** On WebGPU: what kernels in two phases leave between them, in bytes. */
  readonly scratch?: readonly Extent[];
  /** On WebGPU: whether float16 numbers of mixed precision take two bytes there. */
  readonly halves?: boolean;
  /** On WebGPU: the most that lies in one buffer, and so the largest tensor. */
  readonly pageBytes?: number;
  /** Exactly the memory that training on batches of that size takes (`memory.ts`). */
  readonly bytes: number;
}

/** A program that has been started; `results` are the elements of the wanted buffers. */
export interface Started {
  results: Promise<Bytes[]>;
}

export interface Device {
  readonly info: DeviceInfo;
  /** Plans for a larger batch and keeps the state; OutOfMemoryError leaves the old plan alive. */
  resize(batch: number): Promise<void>;
  /** Writes into the state region, ordered after the programs started before. */
  writeState(offset: number, bytes: Uint8Array): void;
  readState(span: Span): Promise<Bytes>;
  /**
   * The same for who does not want to wait: `result` is the state after the calls made before, in
   * `spare` where the device can use it.  Fresh memory takes longer to get than to fill.
   */
  copyState(span: Span, spare?: Bytes): Promise<{ result: Promise<Bytes> }>;
  /**
   * Compiles what a program lacks, while others run; undefined where that is nothing.  `start` does
   * it, too: who asks before does not keep the calls after its own waiting.
   */
  prepare?(program: string): Promise<void> | undefined;
  /** Starts a program on a checked batch that the plan holds. */
  start(
    program: string, batch: number, feeds: readonly Feed[], wanted: readonly number[],
  ): Promise<Started>;
  dispose(): void;
}

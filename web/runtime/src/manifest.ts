/**
 * `manifest.json` as types: the fields, names and order of spec/manifest.md.
 *
 * This file is the table; `parse-manifest.ts` checks a JSON value against it.
 */

import type { Extent } from "./dims.ts";

export const FORMAT = "hearth-bundle";
export const VERSION = 1;
export const WEIGHTS_FILE = "weights.safetensors";
export const CONSTANTS_FILE = "constants.safetensors";

export const FILE_DTYPES = ["float32", "int64", "int32", "bool", "uint32"] as const;
export const DEVICE_DTYPES = ["float32", "int32", "uint32", "bool"] as const;
export const STATE_ROLES = [
  "parameter", "buffer", "optimizer", "constant", "seed", "step", "scaler", "workspace",
] as const;
export const INPUT_ROLES = ["input", "target", "hyper"] as const;
export const OUTPUT_ROLES = ["loss", "output", "metric", "gradient", "norm"] as const;
export const WASM_FEATURES = ["simd128", "relaxed-simd", "threads"] as const;
export const WEBGPU_FEATURES = ["subgroups", "shader-f16"] as const;

export type FileDtype = (typeof FILE_DTYPES)[number];
export type DeviceDtype = (typeof DEVICE_DTYPES)[number];
export type StateRole = (typeof STATE_ROLES)[number];
export type InputRole = (typeof INPUT_ROLES)[number];
export type OutputRole = (typeof OUTPUT_ROLES)[number];
export type WasmFeature = (typeof WASM_FEATURES)[number];
export type WebGpuFeature = (typeof WEBGPU_FEATURES)[number];

export interface FileEntry {
  bytes: number;
  sha256: string;
}

/** One thing that lives from step to step; `offset` is in bytes. */
export interface State {
  name: string;
  role: StateRole;
  dtype: FileDtype;
  shape: readonly number[];
  offset: number;
  trainable?: boolean;
  persistent?: boolean;
  key?: string;
  parameter?: string;
}

/** Memory that kernels touch: in the state region (`offset`) or in a slot of its program. */
export interface Buffer {
  dtype: DeviceDtype;
  shape: readonly Extent[];
  offset?: number;
  slot?: number;
  /** All its elements are float16 numbers. */
  half?: boolean;
  /** Not in the file: what an element takes on a device that stores halves as such. */
  elementBytes?: number;
}

/** One factor of a kernel's number of workgroups: ⌈extent / per⌉. */
export interface Workgroups {
  extent: Extent;
  per: number;
}

/** `origin` is the line of the model, or the first of several, that it comes from. */
export interface Kernel {
  name: string;
  workgroups: readonly Workgroups[];
  origin?: string;
}

/** `range` is half open; `except` is one more admitted value (`ignore_index`). */
export interface Input {
  name: string;
  role: InputRole;
  dtype: FileDtype;
  shape: readonly Extent[];
  buffer: number;
  range?: readonly [number, number];
  except?: number;
}

export interface Output {
  name: string;
  role: OutputRole;
  dtype: FileDtype;
  shape: readonly Extent[];
  buffer: number;
}

/** `kernel` indexes the manifest's kernels, `buffers` its buffers, one per kernel parameter. */
export interface Step {
  kernel: number;
  buffers: readonly number[];
}

/**
 * A slot is as large as the largest of its byte sizes for the actual batch size, and begins where
 * the highest of the earlier slots ends that it lies `above`.
 */
export interface Program {
  inputs: readonly Input[];
  outputs: readonly Output[];
  slots: readonly (readonly Extent[])[];
  /** Without it, each slot lies above the one before. */
  above?: readonly (readonly number[])[];
  half_slots?: readonly (readonly Extent[])[];
  steps: readonly Step[];
}

export interface OptimizerGroup {
  learning_rate: number;
  parameters: readonly string[];
  options: Readonly<Record<string, unknown>>;
}

export interface Optimizer {
  class: string;
  groups: readonly OptimizerGroup[];
}

export const INTERVALS = ["epoch", "step"] as const;

/** Learning rates: the tensor `rates` of a file, float64 [intervals, groups]. */
export interface ScheduleEntry {
  file: string;
  interval: (typeof INTERVALS)[number];
}

export interface WasmVariant {
  file: string;
  features: readonly WasmFeature[];
}

export interface Wasm {
  variants: readonly WasmVariant[];
  scratch_bytes: number;
}

/** A second phase of a kernel, and the memory that both phases bind after its buffers. */
export interface Finish {
  workgroups: readonly Workgroups[];
  scratch_bytes: Extent;
}

/** Other modules for some of the kernels, by name; `software` where they suit such a device. */
export interface WgslVariant {
  name: string;
  file: string;
  features: readonly WebGpuFeature[];
  software: boolean;
  workgroups: Readonly<Record<string, readonly Workgroups[]>>;
  finish?: Readonly<Record<string, Finish>>;
}

/** Modules of the kernels that touch halves, for memory in which these take two bytes. */
export type WgslHalves = Pick<WgslVariant, "file" | "features" | "workgroups" | "finish">;

export const ACCURACIES = ["fast", "strict"] as const;
export const HALVES = ["float16", "bfloat16"] as const;

export interface Golden {
  file: string;
  batch: number;
  seed: number;
  tolerance?: number;
  tolerances?: Readonly<Record<string, number>>;
}

/** The constants of a `torch.amp.GradScaler`; where it stands is state of role `scaler`. */
export interface LossScaling {
  growth_factor: number;
  backoff_factor: number;
  growth_interval: number;
}

export interface Manifest {
  format: typeof FORMAT;
  version: number;
  compiler: string;
  model: string;
  files: Readonly<Record<string, FileEntry>>;
  state: readonly State[];
  state_bytes: number;
  buffers: readonly Buffer[];
  kernels: readonly Kernel[];
  programs: Readonly<Record<string, Program>>;
  random: number;
  optimizer?: Optimizer;
  schedule?: ScheduleEntry;
  wasm?: Wasm;
  wgsl?: { file: string; variants?: readonly WgslVariant[]; halves?: WgslHalves };
  golden?: Golden;
  accuracy?: (typeof ACCURACIES)[number];
  precision?: (typeof HALVES)[number];
  loss_scaling?: LossScaling;
}

/** Whether `weights.safetensors` holds the entry. */
export function isWeight(state: State): boolean {
  return state.role === "parameter" || (state.role === "buffer" && state.persistent === true);
}

/** The number of elements of a state entry. */
export function stateElements(state: State): number {
  return state.shape.reduce((product, extent) => product * extent, 1);
}

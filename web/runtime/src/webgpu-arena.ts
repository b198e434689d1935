/**
 * The arena on a GPU for one batch size: its pages, and every bind group of every program.
 *
 * Bindings are read_write ranges of one buffer, which WebGPU allows as long as the ranges of one
 * kernel do not overlap, or of several where the arena is larger than a buffer may be.  Bind groups
 * are made once per plan.  Behind the arena lies the scratch memory of kernels that run in two
 * phases: they run one after another and share it.
 */

import { evaluate, largestBatch } from "./dims.ts";
import { BackendError, InternalError, type OutOfMemoryError } from "./errors.ts";
import { requireBindable } from "./large-tensors.ts";
import type { Manifest, Program, Workgroups } from "./manifest.ts";
import {
  align, ALIGNMENT_BYTES, bufferBytes, outOfMemory, placeOf, planMemory, type MemoryPlan,
} from "./plan.ts";
import { scratchBindings, type Kernels, type Launch, type Phase } from "./webgpu-kernels.ts";

const MAX_WORKGROUPS = 65535;
const VECTOR_BYTES = 16;

/** One dispatch of a program. */
export interface Dispatch extends Phase {
  bindings: GPUBindGroup;
}

export interface Arena {
  plan: MemoryPlan;
  /** One for each page of the plan, and one for scratch memory if the last has no room. */
  buffers: readonly GPUBuffer[];
  programs: ReadonlyMap<string, readonly Dispatch[]>;
}

/** The most that a device gives in one piece and binds in one. */
export function largestPage(
  { maxBufferSize, maxStorageBufferBindingSize }: GPUSupportedLimits, askedBytes = Infinity,
): number {
  const most = Math.min(maxBufferSize, maxStorageBufferBindingSize, askedBytes);
  return most - most % ALIGNMENT_BYTES;
}

/**
 * Allocates the arena for a batch, in pages of at most so many bytes.  OutOfMemoryError names a
 * tensor that no page holds, or suggests a batch size: `fitting`, if that fits now.
 */
export async function createArena(
  device: GPUDevice, manifest: Manifest, kernels: Kernels, batch: number, pageBytes: number,
  fitting = 0,
): Promise<Arena> {
  requireBindable(manifest, batch, pageBytes);
  const plan = planMemory(manifest, batch, pageBytes);
  const sizes = bufferSizes(plan, scratchBytes(kernels.kernels, batch), pageBytes);
  const tooLarge = (suggestion: number): OutOfMemoryError => {
    const arenaBytes = sizes.reduce((sum, size) => sum + size, 0);
    return outOfMemory({ batch, arenaBytes }, "the GPU", suggestion);
  };
  if (Math.max(...sizes) > pageBytes) {
    throw tooLarge(largestBatch((b) => scratchBytes(kernels.kernels, b) <= pageBytes));
  }
  device.pushErrorScope("validation");
  device.pushErrorScope("out-of-memory");
  const buffers: GPUBuffer[] = [];
  let errors: Promise<(GPUError | null)[]>;
  try {
    let programs: Arena["programs"];
    try {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      for (const size of sizes) buffers.push(device.createBuffer({ label: "arena", size, usage }));
      programs = new Map(Object.entries(manifest.programs).map(([name, program]) =>
        [name, dispatches(device, manifest, kernels, plan, buffers, name, program)] as const));
    } finally {
      errors = Promise.all([device.popErrorScope(), device.popErrorScope()]);
    }
    const [memoryError, refusal] = await errors;
    // The GPU does not say what it has; half of it is the next thing to try.
    if (memoryError) throw tooLarge(Math.max(fitting, Math.floor(batch / 2)));
    if (refusal) throw new BackendError("WebGPU refuses the memory plan", { why: refusal.message });
    return { plan, buffers, programs };
  } catch (error) {
    for (const buffer of buffers) buffer.destroy();
    throw error;
  }
}

/** The buffer of a page. */
export function bufferOf({ buffers }: Pick<Arena, "buffers">, page: number): GPUBuffer {
  const buffer = buffers[page];
  if (!buffer) throw new InternalError("a page has no buffer");
  return buffer;
}

/** Of the pages, the last with scratch memory behind it, or of one more. */
function bufferSizes({ pages }: MemoryPlan, scratch: number, pageBytes: number): number[] {
  const sizes = pages.map(({ bytes }) => Math.max(bytes, ALIGNMENT_BYTES));
  const last = sizes.at(-1) ?? 0;
  if (scratch === 0) return sizes;
  return last + scratch > pageBytes ? [...sizes, scratch] : [...sizes.slice(0, -1), last + scratch];
}

/** x and y of a dispatch for W workgroups: one dimension holds at most 65535. */
export function workgroupCounts(
  { workgroups }: { workgroups: readonly Workgroups[] }, batch: number,
): [number, number] {
  const total = workgroups.reduce(
    (product, { extent, per }) => product * Math.ceil(evaluate(extent, batch) / per), 1);
  return [Math.min(total, MAX_WORKGROUPS), Math.ceil(total / MAX_WORKGROUPS)];
}

/** What the kernel that needs most leaves between its phases. */
export function scratchBytes(kernels: readonly (Launch | undefined)[], batch: number): number {
  const needed = kernels.map((kernel) =>
    (kernel?.finish ? evaluate(kernel.finish.scratch_bytes, batch) : 0));
  return align(Math.max(0, ...needed));
}

function dispatches(
  device: GPUDevice, manifest: Manifest, kernels: Kernels, plan: MemoryPlan,
  buffers: readonly GPUBuffer[], name: string, program: Program,
): Dispatch[] {
  const binding = (page: number, offset: number, bytes: number): GPUBufferBinding => {
    // Kernels may read whole vectors; the room up to the next multiple of 256 is the buffer's.
    const size = Math.max(VECTOR_BYTES, Math.ceil(bytes / VECTOR_BYTES) * VECTOR_BYTES);
    return { buffer: bufferOf({ buffers }, page), offset, size };
  };
  const behind = buffers.length > plan.pages.length ? 0 : plan.pages.at(-1)?.bytes ?? 0;
  return program.steps.flatMap((step) => {
    const kernel = kernels.kernels[step.kernel];
    const phases = kernels.phases[step.kernel];
    if (!kernel || !phases) throw new InternalError("a step has no kernel");
    const layout = kernels.layouts.get(step.buffers.length + scratchBindings(kernel));
    if (!layout) throw new InternalError("a kernel has no layout");
    const bound = step.buffers.map((index) => {
      const { page, offset } = placeOf(plan, manifest, name, index);
      return binding(page, offset, bufferBytes(manifest, index, plan.batch));
    });
    if (kernel.finish) {
      const bytes = evaluate(kernel.finish.scratch_bytes, plan.batch);
      bound.push(binding(buffers.length - 1, behind, bytes));
    }
    const entries = bound.map((resource, i) => ({ binding: i, resource }));
    const bindings = device.createBindGroup({ label: kernel.name, layout, entries });
    return phases.map(({ pipeline, workgroups }) => ({ pipeline, bindings, workgroups }));
  });
}

/**
 * The arena on a GPU for one batch size: one buffer, and every bind group of every program.
 *
 * All bindings are read_write ranges of the same buffer, which WebGPU allows as long as the ranges
 * of one kernel do not overlap.  Bind groups are made once per plan.  Behind the arena lies the
 * scratch memory of kernels that run in two phases: they run one after another and share it.
 */

import { evaluate, largestBatch } from "./dims.ts";
import { BackendError, InternalError, type OutOfMemoryError } from "./errors.ts";
import type { Manifest, Program, Workgroups } from "./manifest.ts";
import {
  align, bufferBytes, buffersOf, offsetOf, outOfMemory, planMemory, type MemoryPlan,
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
  /** Of the buffer: the arena and scratch memory. */
  bytes: number;
  buffer: GPUBuffer;
  programs: ReadonlyMap<string, readonly Dispatch[]>;
}

/** Allocates the arena for a batch; OutOfMemoryError suggests one, `fitting` if that fits now. */
export async function createArena(
  device: GPUDevice, manifest: Manifest, kernels: Kernels, batch: number, fitting = 0,
): Promise<Arena> {
  const plan = planMemory(manifest, batch);
  const bytes = bytesNeeded(manifest, kernels.kernels, batch);
  const tooLarge = (suggestion: number): OutOfMemoryError =>
    outOfMemory({ batch, arenaBytes: bytes }, "the GPU", suggestion);
  if (!fits(device, manifest, kernels.kernels, batch)) {
    throw tooLarge(largestBatch((b) => fits(device, manifest, kernels.kernels, b)));
  }
  device.pushErrorScope("validation");
  device.pushErrorScope("out-of-memory");
  const buffer = device.createBuffer({
    label: "arena", size: Math.max(bytes, 256),
    usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
  });
  let errors: Promise<(GPUError | null)[]>;
  try {
    let programs: Arena["programs"];
    try {
      programs = new Map(Object.entries(manifest.programs).map(([name, program]) =>
        [name, dispatches(device, manifest, kernels, plan, buffer, name, program)] as const));
    } finally {
      errors = Promise.all([device.popErrorScope(), device.popErrorScope()]);
    }
    const [memoryError, refusal] = await errors;
    // The GPU does not say what it has; half of it is the next thing to try.
    if (memoryError) throw tooLarge(Math.max(fitting, Math.floor(batch / 2)));
    if (refusal) throw new BackendError("WebGPU refuses the memory plan", { why: refusal.message });
    return { plan, bytes, buffer, programs };
  } catch (error) {
    buffer.destroy();
    throw error;
  }
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

function bytesNeeded(manifest: Manifest, kernels: readonly Launch[], batch: number): number {
  return planMemory(manifest, batch).arenaBytes + scratchBytes(kernels, batch);
}

function fits(
  device: GPUDevice, manifest: Manifest, kernels: readonly Launch[], batch: number,
): boolean {
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  const bound = Object.values(manifest.programs).flatMap(buffersOf);
  const sizes = bound.map((i) => bufferBytes(manifest, i, batch));
  return bytesNeeded(manifest, kernels, batch) <= maxBufferSize
    && Math.max(scratchBytes(kernels, batch), ...sizes) <= maxStorageBufferBindingSize;
}

function dispatches(
  device: GPUDevice, manifest: Manifest, kernels: Kernels, plan: MemoryPlan, arena: GPUBuffer,
  name: string, program: Program,
): Dispatch[] {
  return program.steps.flatMap((step) => {
    const kernel = kernels.kernels[step.kernel];
    const phases = kernels.phases[step.kernel];
    if (!kernel || !phases) throw new InternalError("a step has no kernel");
    const layout = kernels.layouts.get(step.buffers.length + scratchBindings(kernel));
    if (!layout) throw new InternalError("a kernel has no layout");
    const ranges = step.buffers.map((index) => ({
      offset: offsetOf(plan, manifest, name, index),
      bytes: bufferBytes(manifest, index, plan.batch),
    }));
    if (kernel.finish) {
      const bytes = evaluate(kernel.finish.scratch_bytes, plan.batch);
      ranges.push({ offset: plan.arenaBytes, bytes });
    }
    const entries = ranges.map(({ offset, bytes }, binding) => {
      // Kernels may read whole vectors; the room up to the next multiple of 256 is the buffer's.
      const size = Math.max(VECTOR_BYTES, Math.ceil(bytes / VECTOR_BYTES) * VECTOR_BYTES);
      return { binding, resource: { buffer: arena, offset, size } };
    });
    const bindings = device.createBindGroup({ label: kernel.name, layout, entries });
    return phases.map(({ pipeline, workgroups }) => ({ pipeline, bindings, workgroups }));
  });
}

/**
 * The arena on a GPU for one batch size: one buffer, and every bind group of every program.
 *
 * All bindings are read_write ranges of the same buffer, which WebGPU allows as long as the ranges
 * of one kernel do not overlap.  Bind groups are made once per plan.
 */

import { evaluate, largestBatch } from "./dims.ts";
import { BackendError, InternalError, OutOfMemoryError } from "./errors.ts";
import type { Kernel, Manifest, Program } from "./manifest.ts";
import { bufferBytes, buffersOf, offsetOf, planMemory, type MemoryPlan } from "./plan.ts";
import type { Kernels } from "./webgpu-kernels.ts";

const MAX_WORKGROUPS = 65535;
const VECTOR_BYTES = 16;

/** One dispatch of a program; `kernel` gives the number of workgroups. */
export interface Dispatch {
  pipeline: GPUComputePipeline;
  bindings: GPUBindGroup;
  kernel: Kernel;
}

export interface Arena {
  plan: MemoryPlan;
  buffer: GPUBuffer;
  programs: ReadonlyMap<string, readonly Dispatch[]>;
}

/** Allocates the arena for a batch; OutOfMemoryError suggests a batch size that may fit. */
export async function createArena(
  device: GPUDevice, manifest: Manifest, kernels: Kernels, batch: number,
): Promise<Arena> {
  const plan = planMemory(manifest, batch);
  if (!fits(device, manifest, batch)) {
    throw tooLarge(plan, largestBatch((b) => fits(device, manifest, b)));
  }
  device.pushErrorScope("validation");
  device.pushErrorScope("out-of-memory");
  const buffer = device.createBuffer({
    label: "arena", size: Math.max(plan.arenaBytes, 256),
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
    if (memoryError) throw tooLarge(plan, Math.floor(batch / 2));
    if (refusal) throw new BackendError("WebGPU refuses the memory plan", { why: refusal.message });
    return { plan, buffer, programs };
  } catch (error) {
    buffer.destroy();
    throw error;
  }
}

/** x and y of a dispatch for W workgroups: one dimension holds at most 65535. */
export function workgroupCounts(kernel: Kernel, batch: number): [number, number] {
  const total = kernel.workgroups.reduce(
    (product, { extent, per }) => product * Math.ceil(evaluate(extent, batch) / per), 1);
  return [Math.min(total, MAX_WORKGROUPS), Math.ceil(total / MAX_WORKGROUPS)];
}

function fits(device: GPUDevice, manifest: Manifest, batch: number): boolean {
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  const bound = Object.values(manifest.programs).flatMap(buffersOf);
  return planMemory(manifest, batch).arenaBytes <= maxBufferSize
    && bound.every((i) => bufferBytes(manifest, i, batch) <= maxStorageBufferBindingSize);
}

function tooLarge(plan: MemoryPlan, suggestion: number): OutOfMemoryError {
  const needed = `a batch of ${String(plan.batch)} needs ${String(plan.arenaBytes)} bytes`;
  return new OutOfMemoryError(`${needed}, which the GPU does not give`, {
    remedy: suggestion > 0
      ? `use at most ${String(suggestion)} samples per batch`
      : "the model does not fit at all: use the wasm backend",
  });
}

function dispatches(
  device: GPUDevice, manifest: Manifest, kernels: Kernels, plan: MemoryPlan, arena: GPUBuffer,
  name: string, program: Program,
): Dispatch[] {
  return program.steps.map((step) => {
    const kernel = kernels.kernels[step.kernel];
    const pipeline = kernels.pipelines[step.kernel];
    const layout = kernels.layouts.get(step.buffers.length);
    if (!kernel || !pipeline || !layout) throw new InternalError("a step has no kernel");
    const entries = step.buffers.map((index, binding) => {
      const offset = offsetOf(plan, manifest, name, index);
      // Kernels may read whole vectors; the room up to the next multiple of 256 is the buffer's.
      const bytes = bufferBytes(manifest, index, plan.batch);
      const size = Math.max(VECTOR_BYTES, Math.ceil(bytes / VECTOR_BYTES) * VECTOR_BYTES);
      return { binding, resource: { buffer: arena, offset, size } };
    });
    const bindings = device.createBindGroup({ label: kernel.name, layout, entries });
    return { pipeline, bindings, kernel };
  });
}

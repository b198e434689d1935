/**
 * Measures kernels in their variants on the device, on memory of their own.
 *
 * The kernels of a training step take turns, the largest first, until time is up; what was not
 * reached stays as it is.  A kernel that does not compile is no candidate.
 */

import type { Manifest, Step } from "./manifest.ts";
import { align, bufferBytes } from "./plan.ts";
import type { KernelChoice } from "./tuning-cache.ts";
import { scratchBytes, workgroupCounts } from "./webgpu-arena.ts";
import {
  compileAll, makePhases, scratchBindings, storageLayout, uniformLayout, type Phase,
} from "./webgpu-kernels.ts";
import type { KernelSet } from "./webgpu-variants.ts";

const LIMIT_MS = 1500;
const ENOUGH_MS = 3; // of one timing: completion is reported late
const MOST_REPEATS = 256;
const ROUNDS = 3;
const WORTHWHILE = 0.95; // of the time of the first set

interface Candidate {
  set: string;
  phases: readonly Phase[];
  groups: readonly GPUBindGroup[];
}

/** By kernel, the name of the set that is faster than the first one. */
export async function measureKernels(
  device: GPUDevice, manifest: Manifest, sets: readonly KernelSet[], batch: number,
  limitMs = LIMIT_MS,
): Promise<KernelChoice> {
  const choice: Record<string, string> = {};
  const end = performance.now() + limitMs;
  for (const step of stepsBySize(manifest, batch)) {
    if (performance.now() > end) break;
    const name = manifest.kernels[step.kernel]?.name ?? "";
    const winner = await fastest(device, manifest, sets, step, batch);
    if (winner !== undefined && winner !== sets[0]?.name) choice[name] = winner;
  }
  return choice;
}

/** One step per kernel of the training program, or the first one; most bytes first. */
function stepsBySize(manifest: Manifest, batch: number): Step[] {
  const program = manifest.programs.train ?? Object.values(manifest.programs)[0];
  const steps = new Map((program?.steps ?? []).map((step) => [step.kernel, step]));
  const size = ({ buffers }: Step): number =>
    buffers.reduce((sum, buffer) => sum + bufferBytes(manifest, buffer, batch), 0);
  return [...steps.values()].sort((a, b) => size(b) - size(a));
}

async function fastest(
  device: GPUDevice, manifest: Manifest, sets: readonly KernelSet[], step: Step, batch: number,
): Promise<string | undefined> {
  const own = sets.filter((set) => set.kernels[step.kernel]);
  const scratch = scratchBytes(own.map((set) => set.kernels[step.kernel]), batch);
  const sizes = [...step.buffers.map((buffer) => bufferBytes(manifest, buffer, batch)), scratch]
    .map((bytes) => align(Math.max(1, bytes)));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  if (own.length < 2 || bytes > maxBufferSize) return undefined;
  if (sizes.some((size) => size > maxStorageBufferBindingSize)) return undefined;
  const usage = GPUBufferUsage.STORAGE;
  const memory = device.createBuffer({ label: "tuning", size: bytes, usage });
  const uniform = device.createBuffer({
    size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  try {
    device.queue.writeBuffer(uniform, 0, new Uint32Array([batch, 0, 0, 0]));
    const found = await Promise.all(own.map((set) =>
      candidate(device, set, step, memory, sizes, uniform).catch(() => undefined)));
    return await compare(found.filter((one) => one !== undefined), (one, repeats) =>
      time(device, one, batch, repeats));
  } finally {
    memory.destroy();
    uniform.destroy();
  }
}

/** The kernel of a step in one set, with memory: `sizes` of its buffers, and of scratch memory. */
async function candidate(
  device: GPUDevice, { name, sources, kernels }: KernelSet, { kernel, buffers }: Step,
  memory: GPUBuffer, sizes: readonly number[], uniform: GPUBuffer,
): Promise<Candidate | undefined> {
  const launch = kernels[kernel];
  if (!launch) return undefined;
  const count = buffers.length + scratchBindings(launch);
  const layouts = [storageLayout(device, count), uniformLayout(device)] as const;
  let end = 0;
  const entries = sizes.slice(0, count).map((size, binding) =>
    ({ binding, resource: { buffer: memory, offset: (end += size) - size, size } }));
  const groups = [
    device.createBindGroup({ layout: layouts[0], entries }),
    device.createBindGroup({
      layout: layouts[1], entries: [{ binding: 0, resource: { buffer: uniform } }],
    }),
  ];
  const phases = makePhases(device, launch, sources, layouts);
  await compileAll(phases);
  return { set: name, phases, groups };
}

/** The set of the fastest candidate; the first one's, unless another is clearly faster. */
export async function compare(
  candidates: readonly Candidate[],
  timed: (candidate: Candidate, repeats: number) => Promise<number>,
): Promise<string | undefined> {
  const [first] = candidates;
  if (!first) return undefined;
  let repeats = 1;
  while (repeats < MOST_REPEATS && await timed(first, repeats) < ENOUGH_MS) repeats *= 2;
  const best = candidates.map(() => Infinity);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, candidate] of candidates.entries()) {
      best[i] = Math.min(best[i] ?? Infinity, await timed(candidate, repeats));
    }
  }
  const least = Math.min(...best);
  if (least > WORTHWHILE * (best[0] ?? 0)) return first.set;
  return candidates[best.indexOf(least)]?.set;
}

async function time(
  device: GPUDevice, { groups, phases }: Candidate, batch: number, repeats: number,
): Promise<number> {
  const begin = performance.now();
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  groups.forEach((group, i) => { pass.setBindGroup(i, group); });
  for (let i = 0; i < repeats; i++) {
    for (const phase of phases) {
      pass.setPipeline(phase.pipeline.value);
      pass.dispatchWorkgroups(...workgroupCounts(phase, batch));
    }
  }
  pass.end();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  return performance.now() - begin;
}

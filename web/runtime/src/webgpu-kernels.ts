/**
 * Kernels as compute pipelines: splits kernels.wgsl, compiles in parallel, explains failures.
 *
 * What training takes is compiled at load, the programs that few calls ask for when they are first
 * started; a kernel that several programs have is compiled once.
 *
 * Layouts are explicit and shared by the number of bindings, so that bind groups fit any kernel
 * with as many.  Group 0 holds the kernel's buffers, group 1 the uniform with the batch size.
 */

import { BundleFormatError } from "./errors.ts";
import type { Finish, Kernel, Manifest, Workgroups } from "./manifest.ts";
import { Pipeline } from "./webgpu-pipeline.ts";
import type { KernelSet } from "./webgpu-variants.ts";

/** A kernel in a variant: with `finish` it runs in two phases, and binds scratch memory. */
export interface Launch extends Kernel {
  finish?: Finish;
}

/** One dispatch of a kernel. */
export interface Phase {
  pipeline: Pipeline;
  workgroups: readonly Workgroups[];
}

export interface Kernels {
  kernels: readonly Launch[];
  /** Of each kernel, in order. */
  phases: readonly (readonly Phase[])[];
  /** By number of bindings. */
  layouts: ReadonlyMap<number, GPUBindGroupLayout>;
  uniformLayout: GPUBindGroupLayout;
  /**
   * Compiles what a program still lacks, undefined where that is nothing; BackendError shows the
   * line that was refused.
   */
  prepare(program: string): Promise<void> | undefined;
}

/** Programs that are compiled at load; a bundle that does not train is as a whole. */
const AT_LOAD: ReadonlySet<string> = new Set(
  ["train", "accumulate", "apply", "gradients", "evaluate", "predict"]);

/** The kernels of the manifest, those of training compiled; BackendError as `prepare` raises it. */
export async function compileKernels(
  device: GPUDevice, manifest: Manifest, { sources, kernels: own }: KernelSet,
): Promise<Kernels> {
  const kernels = manifest.kernels.map((kernel, i) => own[i] ?? kernel);
  const counts = bindingCounts(manifest);
  const sizes = kernels.map((kernel, i) => (counts.get(i) ?? 0) + scratchBindings(kernel));
  const layouts = new Map([...new Set(sizes)].map((size) => [size, storageLayout(device, size)]));
  const sizeLayout = uniformLayout(device);
  const phases = kernels.map((kernel, i) => {
    const storage = layouts.get(sizes[i] ?? 0) ?? storageLayout(device, 0);
    return makePhases(device, kernel, sources, [storage, sizeLayout]);
  });
  const ready = new Set<string>();
  const prepare = (program: string): Promise<void> | undefined => {
    if (ready.has(program)) return undefined;
    const used = new Set((manifest.programs[program]?.steps ?? []).map(({ kernel }) => kernel));
    const compiling = compileAll([...used].flatMap((kernel) => phases[kernel] ?? []));
    return compiling.then(() => { ready.add(program); });
  };
  const programs = Object.keys(manifest.programs);
  const trains = manifest.optimizer !== undefined;
  const atLoad = programs.filter((name) => !trains || AT_LOAD.has(name));
  await Promise.all(atLoad.map(async (name) => prepare(name)));
  return { kernels, phases, layouts, uniformLayout: sizeLayout, prepare };
}

/** How many bindings a kernel has after its buffers. */
export function scratchBindings({ finish }: Launch): number {
  return finish ? 1 : 0;
}

/** One kernel, not compiled yet. */
export function makePhases(
  device: GPUDevice, kernel: Launch, sources: ReadonlyMap<string, string>,
  bindGroupLayouts: readonly GPUBindGroupLayout[],
): Phase[] {
  const layout = device.createPipelineLayout({ bindGroupLayouts: [...bindGroupLayouts] });
  return phasesOf(kernel).map((name, i) => {
    const { workgroups } = (i > 0 && kernel.finish) || kernel;
    const code = sources.get(name);
    if (code === undefined) throw new BundleFormatError(`there is no WGSL for the kernel ${name}`);
    return { pipeline: new Pipeline(device, name, code, layout), workgroups };
  });
}

export async function compileAll(phases: readonly Phase[]): Promise<void> {
  await Promise.all(phases.map(({ pipeline }) => pipeline.compile()));
}

/** The names of the modules of a kernel. */
export function phasesOf({ name, finish }: Launch): string[] {
  return finish ? [name, `${name}.finish`] : [name];
}

/** The modules of a file by kernel name: a line `// kernel: NAME` begins each. */
export function splitKernels(text: string): Map<string, string> {
  const parts = text.split(/^\/\/ kernel: (\S+)[^\S\n]*$/m);
  const sources = new Map<string, string>();
  for (let i = 1; i + 1 < parts.length; i += 2) sources.set(parts[i] ?? "", parts[i + 1] ?? "");
  return sources;
}

/** Parameters of each kernel that a program uses, by kernel index. */
function bindingCounts(manifest: Manifest): Map<number, number> {
  const counts = new Map<number, number>();
  for (const program of Object.values(manifest.programs)) {
    for (const { kernel, buffers } of program.steps) {
      const known = counts.get(kernel) ?? buffers.length;
      if (known !== buffers.length) {
        const name = manifest.kernels[kernel]?.name ?? "";
        throw new BundleFormatError(`kernel ${name} is used with different numbers of buffers`);
      }
      counts.set(kernel, known);
    }
  }
  return counts;
}

/** The layout of group 1: the batch size. */
export function uniformLayout(device: GPUDevice): GPUBindGroupLayout {
  return device.createBindGroupLayout({
    entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform" } }],
  });
}

/** The layout of group 0 for as many buffers. */
export function storageLayout(device: GPUDevice, count: number): GPUBindGroupLayout {
  const entries = Array.from({ length: count }, (_, binding) => ({
    binding, visibility: GPUShaderStage.COMPUTE, buffer: { type: "storage" as const },
  }));
  return device.createBindGroupLayout({ entries });
}

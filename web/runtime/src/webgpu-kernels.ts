/**
 * Kernels as compute pipelines: splits kernels.wgsl, compiles all in parallel, explains failures.
 *
 * Layouts are explicit and shared by the number of bindings, so that bind groups fit any kernel
 * with as many.  Group 0 holds the kernel's buffers, group 1 the uniform with the batch size.
 */

import { BackendError, BundleFormatError, reasonOf } from "./errors.ts";
import type { Finish, Kernel, Manifest, Workgroups } from "./manifest.ts";
import type { KernelSet } from "./webgpu-variants.ts";

/** A kernel in a variant: with `finish` it runs in two phases, and binds scratch memory. */
export interface Launch extends Kernel {
  finish?: Finish;
}

/** One dispatch of a kernel. */
export interface Phase {
  pipeline: GPUComputePipeline;
  workgroups: readonly Workgroups[];
}

export interface Kernels {
  kernels: readonly Launch[];
  /** Of each kernel, in order. */
  phases: readonly (readonly Phase[])[];
  /** By number of bindings. */
  layouts: ReadonlyMap<number, GPUBindGroupLayout>;
  uniformLayout: GPUBindGroupLayout;
}

/** All kernels of the manifest, compiled; BackendError as `compilePhases` raises it. */
export async function compileKernels(
  device: GPUDevice, manifest: Manifest, { sources, kernels: own }: KernelSet,
): Promise<Kernels> {
  const kernels = manifest.kernels.map((kernel, i) => own[i] ?? kernel);
  const counts = bindingCounts(manifest);
  const sizes = kernels.map((kernel, i) => (counts.get(i) ?? 0) + scratchBindings(kernel));
  const layouts = new Map([...new Set(sizes)].map((size) => [size, storageLayout(device, size)]));
  const sizeLayout = uniformLayout(device);
  const phases = await Promise.all(kernels.map((kernel, i) => {
    const storage = layouts.get(sizes[i] ?? 0) ?? storageLayout(device, 0);
    return compilePhases(device, kernel, sources, [storage, sizeLayout]);
  }));
  return { kernels, phases, layouts, uniformLayout: sizeLayout };
}

/** How many bindings a kernel has after its buffers. */
export function scratchBindings({ finish }: Launch): number {
  return finish ? 1 : 0;
}

/** One kernel, compiled; BackendError shows the line that was refused. */
export function compilePhases(
  device: GPUDevice, kernel: Launch, sources: ReadonlyMap<string, string>,
  bindGroupLayouts: readonly GPUBindGroupLayout[],
): Promise<Phase[]> {
  const layout = device.createPipelineLayout({ bindGroupLayouts: [...bindGroupLayouts] });
  return Promise.all(phasesOf(kernel).map(async (name, i) => {
    const { workgroups } = (i > 0 && kernel.finish) || kernel;
    const code = sources.get(name);
    if (code === undefined) throw new BundleFormatError(`there is no WGSL for the kernel ${name}`);
    return { pipeline: await compile(device, name, code, layout), workgroups };
  }));
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

async function compile(
  device: GPUDevice, label: string, code: string, layout: GPUPipelineLayout,
): Promise<GPUComputePipeline> {
  const module = device.createShaderModule({ label, code });
  const compute = { module, entryPoint: "main" };
  try {
    return await device.createComputePipelineAsync({ label, layout, compute });
  } catch (error) {
    const { messages } = await module.getCompilationInfo();
    const first = messages.find(({ type }) => type === "error");
    throw new BackendError(`the kernel ${label} does not compile on this GPU`, {
      why: first ? explain(first, code) : reasonOf(error),
      remedy: "use the wasm backend, and report this with the name of the GPU",
    });
  }
}

/** The message of the compiler with the lines around its place. */
function explain({ lineNum, linePos, message }: GPUCompilationMessage, code: string): string {
  const lines = code.split("\n");
  const first = Math.max(1, lineNum - 2);
  const shown = lines.slice(first - 1, lineNum + 1).map((line, i) => {
    const number = first + i;
    return `${number === lineNum ? ">" : " "}${String(number).padStart(5)} | ${line}`;
  });
  return `line ${String(lineNum)}:${String(linePos)}: ${message}\n${shown.join("\n")}`;
}

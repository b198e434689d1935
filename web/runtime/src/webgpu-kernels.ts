/**
 * Kernels as compute pipelines: splits kernels.wgsl, compiles all in parallel, explains failures.
 *
 * Layouts are explicit and shared by the number of bindings, so that bind groups fit any kernel
 * with as many.  Group 0 holds the kernel's buffers, group 1 the uniform with the batch size.
 */

import { BackendError, BundleFormatError, reasonOf } from "./errors.ts";
import type { Kernel, Manifest } from "./manifest.ts";
import type { KernelSet } from "./webgpu-variants.ts";

export interface Kernels {
  pipelines: readonly GPUComputePipeline[];
  /** How each is dispatched. */
  kernels: readonly Kernel[];
  /** By number of bindings. */
  layouts: ReadonlyMap<number, GPUBindGroupLayout>;
  uniformLayout: GPUBindGroupLayout;
}

/** All kernels of the manifest, compiled; BackendError shows the line that was refused. */
export async function compileKernels(
  device: GPUDevice, manifest: Manifest, { sources, kernels: own }: KernelSet,
): Promise<Kernels> {
  const kernels = manifest.kernels.map((kernel, i) => own[i] ?? kernel);
  const counts = bindingCounts(manifest);
  const layouts = new Map<number, GPUBindGroupLayout>();
  for (const count of counts.values()) {
    if (!layouts.has(count)) layouts.set(count, storageLayout(device, count));
  }
  const sizeLayout = uniformLayout(device);
  const pipelines = await Promise.all(kernels.map((kernel, i) => {
    const code = sources.get(kernel.name);
    if (code === undefined) {
      throw new BundleFormatError(`${manifest.wgsl?.file ?? "WGSL"} has no kernel ${kernel.name}`);
    }
    const storage = layouts.get(counts.get(i) ?? 0) ?? storageLayout(device, 0);
    const layout = device.createPipelineLayout({ bindGroupLayouts: [storage, sizeLayout] });
    return compile(device, kernel, code, layout);
  }));
  return { pipelines, kernels, layouts, uniformLayout: sizeLayout };
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
  device: GPUDevice, kernel: Kernel, code: string, layout: GPUPipelineLayout,
): Promise<GPUComputePipeline> {
  const module = device.createShaderModule({ label: kernel.name, code });
  const compute = { module, entryPoint: "main" };
  try {
    return await device.createComputePipelineAsync({ label: kernel.name, layout, compute });
  } catch (error) {
    const { messages } = await module.getCompilationInfo();
    const first = messages.find(({ type }) => type === "error");
    throw new BackendError(`the kernel ${kernel.name} does not compile on this GPU`, {
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

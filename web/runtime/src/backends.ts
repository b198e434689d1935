/**
 * Which devices to try, and in what order: WebGPU where it was asked for, WebAssembly with threads,
 * then without.  Where nothing was asked for, WebGPU on real hardware may challenge WebAssembly.
 */

import type { Bundle } from "./bundle.ts";
import type { Device } from "./device.ts";
import { BackendError } from "./errors.ts";
import { defaultThreads, wasmFeatures } from "./features.ts";
import type { MemoryKind } from "./memory.ts";
import { openWasm } from "./wasm.ts";
import { gpuMemory, openWebGpu, requestAdapter, type GpuOptions } from "./webgpu.ts";
import { GENERAL, usableVariants } from "./webgpu-variants.ts";

export const BACKEND_CHOICES = ["auto", "webgpu", "wasm"] as const;

/** `auto` measures, and takes WebGPU only on real hardware; `webgpu` takes a software one, too. */
export type BackendChoice = (typeof BACKEND_CHOICES)[number];

export interface Candidate extends MemoryKind {
  name: string;
  open(batch: number): Promise<Device>;
}

/** The devices for a bundle. */
export interface Candidates {
  /** To try, best first; may be empty. */
  first: Candidate[];
  /** To try in the background, against the first that works. */
  challengers: Candidate[];
}

export async function candidates(
  bundle: Bundle, choice: BackendChoice, threads = defaultThreads(), softwareGpu = false,
  gpu: GpuOptions = {},
): Promise<Candidates> {
  const isAsked = choice === "webgpu";
  const gpus = choice === "wasm"
    ? [] : await webGpuCandidates(bundle, isAsked, isAsked || softwareGpu, gpu);
  const features = wasmFeatures();
  if (threads === 1) features.delete("threads");
  const variants = (bundle.manifest.wasm?.variants ?? []).filter((variant) =>
    variant.features.every((feature) => features.has(feature)));
  const cpu = variants.map((variant) => ({
    name: `WebAssembly (${variant.features.join(", ")})`,
    backend: "wasm" as const,
    threads: variant.features.includes("threads") ? threads : 1,
    open: (batch: number) => openWasm(bundle, variant, batch, threads),
  }));
  if (!isAsked && cpu.length > 0) return { first: cpu, challengers: gpus };
  return { first: [...gpus, ...cpu], challengers: [] };
}

/**
 * WebGPU with the kernels that suit the adapter, then with those that suit any; where nobody asked
 * for it, only if there is code and an adapter for it.
 */
async function webGpuCandidates(
  bundle: Bundle, isAsked: boolean, allowSoftware: boolean, options: GpuOptions,
): Promise<Candidate[]> {
  const name = "WebGPU";
  try {
    const adapter = await requestAdapter(allowSoftware);
    if (!isAsked && !bundle.manifest.wgsl) return [];
    const chosen = {
      name, ...gpuMemory(bundle, adapter, options),
      open: (batch: number) => openWebGpu(bundle, adapter, batch, options),
    };
    if (options.kernels !== undefined || usableVariants(bundle.manifest, adapter).length === 0) {
      return [chosen];
    }
    const asked = { ...options, kernels: GENERAL };
    const general = {
      name: `${name} with general kernels`, ...gpuMemory(bundle, adapter, asked),
      // An adapter gives one device only.
      open: async (batch: number) =>
        openWebGpu(bundle, await requestAdapter(allowSoftware), batch, asked),
    };
    return [chosen, general];
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    const refused: Candidate = {
      name, backend: "webgpu", threads: 1, open: () => Promise.reject(error),
    };
    return isAsked ? [refused] : [];
  }
}

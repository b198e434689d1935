/**
 * Which devices to try, and in what order: WebGPU on real hardware, then WebAssembly with threads,
 * then without.
 */

import type { Bundle } from "./bundle.ts";
import type { Device } from "./device.ts";
import { BackendError } from "./errors.ts";
import { defaultThreads, wasmFeatures } from "./features.ts";
import { openWasm } from "./wasm.ts";
import { openWebGpu, requestAdapter } from "./webgpu.ts";

export const BACKEND_CHOICES = ["auto", "webgpu", "wasm"] as const;

/** `auto` takes WebGPU only on real hardware, `webgpu` also takes a software adapter. */
export type BackendChoice = (typeof BACKEND_CHOICES)[number];

export interface Candidate {
  name: string;
  open(batch: number): Promise<Device>;
}

/** The devices to try for a bundle, best first; the list may be empty. */
export async function candidates(
  bundle: Bundle, choice: BackendChoice, threads = defaultThreads(),
): Promise<Candidate[]> {
  const gpu = choice === "wasm" ? undefined : await webGpuCandidate(bundle, choice === "webgpu");
  const features = wasmFeatures();
  if (threads === 1) features.delete("threads");
  const variants = (bundle.manifest.wasm?.variants ?? []).filter((variant) =>
    variant.features.every((feature) => features.has(feature)));
  const cpu = variants.map((variant) => ({
    name: `WebAssembly (${variant.features.join(", ")})`,
    open: (batch: number) => openWasm(bundle, variant, batch, threads),
  }));
  return gpu ? [gpu, ...cpu] : cpu;
}

/** WebGPU; where nobody asked for it, only if there is code and an adapter for it. */
async function webGpuCandidate(bundle: Bundle, asked: boolean): Promise<Candidate | undefined> {
  const name = "WebGPU";
  try {
    const adapter = await requestAdapter(asked);
    if (!asked && !bundle.manifest.wgsl) return undefined;
    return { name, open: (batch) => openWebGpu(bundle, adapter, batch) };
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    return asked ? { name, open: () => Promise.reject(error) } : undefined;
  }
}

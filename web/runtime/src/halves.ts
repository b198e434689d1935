/**
 * Float16 numbers in two bytes, on an adapter with `shader-f16` (spec/manifest.md, "WebGPU").
 *
 * The kernels that touch such numbers have modules of their own, and slots are smaller: a device
 * takes all of it or nothing.  Elsewhere a half takes four bytes, and its value is the same.
 */

import type { Bundle } from "./bundle.ts";
import type { Manifest, WebGpuFeature } from "./manifest.ts";
import { GENERAL, override, readSet, type KernelSet } from "./webgpu-variants.ts";

/** What a device needs to store halves as such; undefined where it does not. */
export function featuresForHalves(
  { wgsl }: Manifest, adapter: GPUAdapter, gpuKernels?: string,
): readonly WebGpuFeature[] | undefined {
  const features = gpuKernels === GENERAL ? undefined : wgsl?.halves?.features;
  return features?.every((feature) => adapter.features.has(feature)) ? features : undefined;
}

/** The chosen kernels, with those that touch halves for memory of two bytes. */
export async function kernelsForHalves(bundle: Bundle, chosen: KernelSet): Promise<KernelSet> {
  const halves = bundle.manifest.wgsl?.halves;
  if (!halves) return chosen;
  const own = await readSet(bundle, { name: "halves", ...halves });
  return override(`${chosen.name}, halves`, chosen, [own]);
}

/**
 * Which variant of each kernel an adapter gets (spec/manifest.md, "WebGPU").
 *
 * A device in software is known by its name and gets what is written for such; on others kernels
 * are measured once, and what was found is kept.  The choice is made before anything trains.
 */

import type { Bundle } from "./bundle.ts";
import { InvalidInputError } from "./errors.ts";
import { adapterName, isSoftware } from "./features.ts";
import type { Manifest, WebGpuFeature, WgslVariant } from "./manifest.ts";
import { recall, remember, type KernelChoice } from "./tuning-cache.ts";
import { phasesOf, splitKernels, type Launch } from "./webgpu-kernels.ts";
import { measureKernels } from "./webgpu-tuning.ts";

export const GENERAL = "general";
const MEASURED = "measured";
const TYPICAL_BATCH = 32;

/** Modules by kernel name, and how each is dispatched. */
export interface KernelSet {
  readonly name: string;
  readonly sources: ReadonlyMap<string, string>;
  /** In the manifest's order; some may be missing. */
  readonly kernels: readonly (Launch | undefined)[];
}

/** The variants of a bundle that an adapter has all features for. */
export function usableVariants(manifest: Manifest, adapter: GPUAdapter): WgslVariant[] {
  return (manifest.wgsl?.variants ?? []).filter(({ features }) =>
    features.every((feature) => adapter.features.has(feature)));
}

/** The features that a device needs for these variants. */
export function featuresOf(variants: readonly WgslVariant[]): WebGpuFeature[] {
  return [...new Set(variants.flatMap(({ features }) => features))];
}

/**
 * The kernels to compile; `asked` is "general", "measured", the name of a variant, or undefined
 * for what suits the adapter.
 */
export async function chooseKernels(
  bundle: Bundle, gpu: GPUDevice, adapter: GPUAdapter, batch: number, asked?: string,
): Promise<KernelSet> {
  const { manifest } = bundle;
  const general = await generalSet(bundle);
  const usable = usableVariants(manifest, adapter);
  if (asked === GENERAL || usable.length === 0 && asked === undefined) return general;
  const software = isSoftware(adapter);
  const named = usable.find((variant) =>
    (asked === undefined ? software && variant.software : variant.name === asked));
  if (named) return override(named.name, general, [await readSet(bundle, named)]);
  if (asked !== undefined && asked !== MEASURED) throw unknown(asked, usable);
  const sets = new Map([[GENERAL, general]]);
  for (const variant of usable) sets.set(variant.name, await readSet(bundle, variant));
  const choice = await measuredChoice(bundle, gpu, adapter, sets, batch);
  const chosen = Object.entries(choice).map(([kernel, name]) => only(sets.get(name), kernel));
  return override(MEASURED, general, chosen);
}

async function measuredChoice(
  bundle: Bundle, gpu: GPUDevice, adapter: GPUAdapter, sets: ReadonlyMap<string, KernelSet>,
  batch: number,
): Promise<KernelChoice> {
  const { files, wgsl } = bundle.manifest;
  const hash = files[wgsl?.file ?? ""]?.sha256 ?? "";
  const key = `${adapterName(adapter)} ${hash}`;
  const known = await recall(key);
  if (known) return known;
  const size = Math.max(batch, TYPICAL_BATCH);
  const found = await measureKernels(gpu, bundle.manifest, [...sets.values()], size);
  await remember(key, found);
  return found;
}

async function generalSet(bundle: Bundle): Promise<KernelSet> {
  const { kernels, wgsl } = bundle.manifest;
  return { name: GENERAL, sources: splitKernels(await bundle.readText(wgsl?.file ?? "")), kernels };
}

/** The modules of a variant, for the kernels that it has. */
export async function readSet(
  bundle: Bundle, variant: Pick<WgslVariant, "name" | "file" | "workgroups" | "finish">,
): Promise<KernelSet> {
  const kernels = bundle.manifest.kernels.map(({ name }) => {
    const workgroups = variant.workgroups[name], finish = variant.finish?.[name];
    return workgroups && { name, workgroups, ...finish && { finish } };
  });
  const sources = splitKernels(await bundle.readText(variant.file));
  return { name: variant.name, sources, kernels };
}

/** The kernels of a set, some of them replaced. */
export function override(name: string, general: KernelSet, own: readonly KernelSet[]): KernelSet {
  const sources = new Map(general.sources);
  const kernels = general.kernels.map((kernel, i) => {
    const set = own.find((candidate) => candidate.kernels[i]);
    const replaced = set?.kernels[i];
    if (!set || !replaced) return kernel;
    for (const name of phasesOf(replaced)) sources.set(name, set.sources.get(name) ?? "");
    return replaced;
  });
  return { name, sources, kernels };
}

/** One kernel of a set. */
function only(set: KernelSet | undefined, name: string): KernelSet {
  const kernels = (set?.kernels ?? []).map((k) => (k?.name === name ? k : undefined));
  return { name, sources: set?.sources ?? new Map(), kernels };
}

function unknown(asked: string, usable: readonly WgslVariant[]): InvalidInputError {
  const names = [GENERAL, MEASURED, ...usable.map(({ name }) => name)];
  return new InvalidInputError(`option gpuKernels is "${asked}", expected ${names.join(" or ")}`);
}

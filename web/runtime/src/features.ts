/**
 * What this browser can do, by trying it: never by its name.
 */

import type { WasmFeature } from "./manifest.ts";

// Modules as `wat2wasm` writes them, after magic and version, each with one such instruction.
const SIMD = "0105016000017b030201000a080106004100fd110b";
const RELAXED = "01080160037b7b7b017b030201000a0d010b00200020012002fd85020b";
const THREADS = "010401600000030201000504010301010a0b0109004100fe1002001a0b";

function validates(body: string): boolean {
  const hex = `0061736d01000000${body}`;
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
  return typeof WebAssembly === "object" && WebAssembly.validate(bytes);
}

/** The WebAssembly features of this browser, `threads` only where this thread may use them. */
export function wasmFeatures(): Set<WasmFeature> {
  const features = new Set<WasmFeature>();
  if (validates(SIMD)) features.add("simd128");
  if (validates(RELAXED)) features.add("relaxed-simd");
  if (validates(THREADS) && canUseThreads()) features.add("threads");
  return features;
}

/** Threads need shared memory (a cross-origin isolated page), workers, and leave to wait. */
function canUseThreads(): boolean {
  const scope = globalThis as { crossOriginIsolated?: boolean; document?: unknown };
  const mayWait = scope.document === undefined;
  return scope.crossOriginIsolated === true && mayWait && typeof Worker === "function";
}

/** How many threads to use when nobody says: more than four rarely pay, work is split evenly. */
export function defaultThreads(): number {
  return Math.max(1, Math.min(4, (globalThis.navigator as Navigator | undefined)
    ?.hardwareConcurrency ?? 1));
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|software/i;

/** What an adapter calls itself. */
export function adapterName(adapter: GPUAdapter): string {
  const info = adapter.info as Partial<GPUAdapterInfo> | undefined; // missing in older browsers
  const parts = [info?.vendor, info?.architecture, info?.device, info?.description];
  return [...new Set(parts)].filter(Boolean).join(" ") || "unknown adapter";
}

/** Whether the adapter computes on the CPU: slower than our own WebAssembly. */
export function isSoftware(adapter: GPUAdapter): boolean {
  const old = adapter as { isFallbackAdapter?: boolean };
  const info = adapter.info as Partial<GPUAdapterInfo> | undefined;
  const fallback = info?.isFallbackAdapter ?? old.isFallbackAdapter ?? false;
  return fallback || SOFTWARE.test(adapterName(adapter));
}

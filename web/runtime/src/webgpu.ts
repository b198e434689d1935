/**
 * A device made of WebGPU: one encoder, one pass and one submit per step.
 *
 * A step allocates nothing but promises: bind groups belong to the plan, results come back through
 * a ring of staging buffers while the next steps are already under way.
 */

import type { Bundle } from "./bundle.ts";
import type { Device, DeviceInfo, Started } from "./device.ts";
import {
  BackendError, DeviceLostError, HearthError, InternalError, reasonOf, InvalidInputError,
} from "./errors.ts";
import { adapterName, isSoftware } from "./features.ts";
import { featuresForHalves, kernelsForHalves } from "./halves.ts";
import type { Feed } from "./inputs.ts";
import type { Manifest } from "./manifest.ts";
import { neededBytes, UNIFORM_BYTES, type MemoryKind } from "./memory.ts";
import { align, bufferBytes, partsOf, placeOf, withHalves } from "./plan.ts";
import type { Bytes } from "./safetensors.ts";
import type { Span } from "./state.ts";
import { bufferOf, createArena, largestPage, workgroupCounts, type Arena } from "./webgpu-arena.ts";
import { compileKernels, type Kernels } from "./webgpu-kernels.ts";
import {
  copyRanges, groupRanges, joinRanges, Readback, splitRanges, type ArenaRange, type Staged,
} from "./webgpu-readback.ts";
import { chooseKernels, featuresOf, usableVariants } from "./webgpu-variants.ts";

export interface GpuOptions {
  /** Which kernels: "general", "measured" or the name of a variant. */
  kernels?: string | undefined;
  /** The most bytes of one buffer, where that is less than the adapter gives. */
  bufferBytes?: number | undefined;
}

/** What an adapter's memory is like for a bundle. */
export function gpuMemory(
  { manifest }: Bundle, adapter: GPUAdapter, { kernels, bufferBytes }: GpuOptions,
): MemoryKind & { pageBytes: number } {
  const halves = featuresForHalves(manifest, adapter, kernels) !== undefined;
  const pageBytes = largestPage(adapter.limits, bufferBytes);
  return { backend: "webgpu", threads: 1, halves, pageBytes };
}

/** A device for the WGSL of the bundle; BackendError says what is missing. */
export async function openWebGpu(
  bundle: Bundle, adapter: GPUAdapter, batch: number, options: GpuOptions,
): Promise<Device> {
  const { manifest } = bundle;
  if (!manifest.wgsl) throw new BackendError("the bundle was not compiled for WebGPU");
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  const halves = featuresForHalves(manifest, adapter, options.kernels);
  const gpu = await adapter.requestDevice({
    requiredFeatures: [...featuresOf(usableVariants(manifest, adapter)), ...(halves ?? [])],
    requiredLimits: { maxBufferSize, maxStorageBufferBindingSize },
  }).catch((error: unknown) => {
    throw new BackendError("the GPU gives no device", { why: reasonOf(error) });
  });
  try {
    const chosen = await chooseKernels(bundle, gpu, adapter, batch, options.kernels);
    const set = halves ? await kernelsForHalves(bundle, chosen) : chosen;
    const stored = halves ? withHalves(manifest) : manifest;
    const kernels = await compileKernels(gpu, stored, set);
    const memory = gpuMemory(bundle, adapter, options);
    const arena = await createArena(gpu, stored, kernels, batch, memory.pageBytes);
    const names = { adapter: adapterName(adapter), kernels: set.name };
    return new WebGpuDevice(stored, gpu, names, memory, kernels, arena);
  } catch (error) {
    gpu.destroy();
    throw error;
  }
}

/** The adapter of this machine; BackendError where there is none, or only a software one. */
export async function requestAdapter(allowSoftware: boolean): Promise<GPUAdapter> {
  const api = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (!api) throw new BackendError("this browser has no WebGPU");
  const adapter = await api.requestAdapter({ powerPreference: "high-performance" })
    .catch((error: unknown) => {
      throw new BackendError("WebGPU gives no adapter", { why: reasonOf(error) });
    });
  if (!adapter) throw new BackendError("WebGPU finds no adapter");
  if (!allowSoftware && isSoftware(adapter)) {
    throw new BackendError(`the only adapter is software: ${adapterName(adapter)}`);
  }
  return adapter;
}

class WebGpuDevice implements Device {
  info: DeviceInfo;
  private readonly readback: Readback;
  private readonly uniform: GPUBuffer;
  private readonly uniformBindings: GPUBindGroup;
  private readonly batchWord = new Uint32Array(UNIFORM_BYTES / 4);
  private fault: HearthError | undefined;
  private disposed = false;

  constructor(
    private readonly manifest: Manifest,
    private readonly gpu: GPUDevice,
    private readonly names: { adapter: string; kernels: string },
    private readonly memory: MemoryKind & { pageBytes: number },
    private readonly kernels: Kernels,
    private arena: Arena,
  ) {
    this.info = this.describe();
    this.readback = new Readback(gpu);
    this.uniform = gpu.createBuffer({
      label: "batch size", size: UNIFORM_BYTES,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.uniformBindings = gpu.createBindGroup({
      layout: kernels.uniformLayout,
      entries: [{ binding: 0, resource: { buffer: this.uniform } }],
    });
    gpu.onuncapturederror = ({ error }) => {
      this.fault ??= new BackendError("WebGPU refused a command", { why: error.message });
    };
    void gpu.lost.then(({ message }) => {
      if (!this.disposed) this.fault = lost(message);
    });
  }

  async resize(batch: number): Promise<void> {
    this.requireAlive();
    const old = this.arena;
    const arena = await createArena(
      this.gpu, this.manifest, this.kernels, batch, this.memory.pageBytes, old.plan.batch);
    const encoder = this.gpu.createCommandEncoder();
    const state = partsOf(arena.plan, 0, align(this.manifest.state_bytes));
    // Where pages begin in the state region does not depend on the batch.
    for (const { page, offset, bytes } of state) {
      encoder.copyBufferToBuffer(
        bufferOf(old, page), offset, bufferOf(arena, page), offset, bytes);
    }
    this.gpu.queue.submit([encoder.finish()]);
    for (const buffer of old.buffers) buffer.destroy();
    this.arena = arena;
    this.info = this.describe();
  }

  writeState(offset: number, bytes: Uint8Array): void {
    this.requireAlive();
    for (const part of partsOf(this.arena.plan, offset, bytes.byteLength)) {
      const data = bytes.subarray(part.from, part.from + part.bytes);
      this.write(bufferOf(this.arena, part.page), part.offset, data);
    }
  }

  async readState(span: Span): Promise<Bytes> {
    return (await this.copyState(span)).result;
  }

  async copyState({ offset, bytes }: Span): Promise<{ result: Promise<Bytes> }> {
    const sources = partsOf(this.arena.plan, offset, bytes)
      .map((part) => ({ ...part, buffer: bufferOf(this.arena, part.page) }));
    const { results } = await this.collect(sources);
    return { result: results.then(joinRanges) };
  }

  prepare(program: string): Promise<void> | undefined {
    return this.kernels.prepare(program);
  }

  async start(
    program: string, batch: number, feeds: readonly Feed[], wanted: readonly number[],
  ): Promise<Started> {
    const compiling = this.prepare(program);
    if (compiling) await compiling;
    const sources = wanted.map((buffer) => ({
      ...this.place(program, buffer), bytes: bufferBytes(this.manifest, buffer, batch),
    }));
    return this.collect(sources, (encoder) => {
      this.setBatch(batch);
      for (const { buffer, data } of feeds) {
        const { buffer: page, offset } = this.place(program, buffer);
        this.write(page, offset, data);
      }
      this.encode(encoder, program, batch);
    });
  }

  dispose(): void {
    this.disposed = true;
    for (const buffer of this.arena.buffers) buffer.destroy();
    this.gpu.destroy();
  }

  /** Asked for in every call, and so worked out once for each plan. */
  private describe(): DeviceInfo {
    const scratch = this.kernels.kernels.flatMap(({ finish }) =>
      (finish ? [finish.scratch_bytes] : []));
    const kind = { ...this.memory, scratch };
    const { batch } = this.arena.plan;
    const bytes = neededBytes(this.manifest, batch, kind);
    return { ...kind, ...this.names, batchSize: batch, bytes };
  }

  private async take(bytes: number): Promise<GPUBuffer> {
    this.requireAlive(); // before it waits for a buffer that a lost device never gives back
    return this.readback.take(bytes);
  }

  /** Submits what `record` encodes, and then reads ranges of the arena. */
  private async collect(
    sources: readonly ArenaRange[], record?: (encoder: GPUCommandEncoder) => void,
  ): Promise<Started> {
    const groups = groupRanges(sources, this.memory.pageBytes);
    const staged: Staged[] = [];
    try {
      for (const group of groups) {
        const bytes = group.reduce((sum, source) => sum + source.bytes, 0);
        staged.push({ group, bytes, staging: await this.take(bytes) });
      }
      this.requireAlive();
      const encoder = this.gpu.createCommandEncoder();
      record?.(encoder);
      for (const { group, staging } of staged) copyRanges(encoder, group, staging);
      this.gpu.queue.submit([encoder.finish()]);
    } catch (error) {
      for (const { staging } of staged) this.readback.release(staging);
      throw error;
    }
    const results = Promise.all(staged.map(async ({ group, bytes, staging }) =>
      splitRanges(await this.read(staging, bytes), group)));
    return { results: results.then((parts) => parts.flat()) };
  }

  private encode(encoder: GPUCommandEncoder, program: string, batch: number): void {
    const dispatches = this.arena.programs.get(program);
    if (!dispatches) throw new InvalidInputError(`there is no program "${program}"`);
    const pass = encoder.beginComputePass();
    pass.setBindGroup(1, this.uniformBindings);
    for (const dispatch of dispatches) {
      const [x, y] = workgroupCounts(dispatch, batch);
      if (x === 0) continue;
      pass.setPipeline(dispatch.pipeline.value);
      pass.setBindGroup(0, dispatch.bindings);
      pass.dispatchWorkgroups(x, y);
    }
    pass.end();
  }

  private async read(staging: GPUBuffer, bytes: number): Promise<Bytes> {
    try {
      const result = await this.readback.read(staging, bytes);
      this.requireAlive();
      return result;
    } catch (error) {
      if (error instanceof HearthError) throw error;
      // A lost device rejects mapAsync shortly before it says that it is lost.
      const soon = new Promise<undefined>((resolve) => { setTimeout(resolve, 200, undefined); });
      const info = await Promise.race([this.gpu.lost, soon]);
      if (info && !this.disposed) throw lost(info.message);
      throw this.fault ?? new BackendError("WebGPU gave no result", { why: reasonOf(error) });
    }
  }

  private setBatch(batch: number): void {
    if (this.batchWord[0] === batch) return;
    this.batchWord[0] = batch;
    this.write(this.uniform, 0, this.batchWord);
  }

  private write(buffer: GPUBuffer, offset: number, data: ArrayBufferView): void {
    this.gpu.queue.writeBuffer(buffer, offset, data as GPUAllowSharedBufferSource);
  }

  private place(program: string, index: number): { buffer: GPUBuffer; offset: number } {
    const { page, offset } = placeOf(this.arena.plan, this.manifest, program, index);
    return { buffer: bufferOf(this.arena, page), offset };
  }

  private requireAlive(): void {
    if (this.fault) throw this.fault;
    if (this.disposed) throw new InternalError("the device was disposed");
  }
}

function lost(message: string): DeviceLostError {
  return new DeviceLostError("the GPU disappeared while it worked", {
    why: message || "the driver was reset, or the browser's GPU process ended",
    remedy: "load the bundle again, from the last checkpoint if there is one",
  });
}

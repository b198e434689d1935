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
import { featuresForHalves, kernelsForHalves, withHalves } from "./halves.ts";
import type { Feed } from "./inputs.ts";
import type { Manifest } from "./manifest.ts";
import { neededBytes, UNIFORM_BYTES } from "./memory.ts";
import { align, bufferBytes, offsetOf } from "./plan.ts";
import type { Bytes } from "./safetensors.ts";
import type { Span } from "./state.ts";
import { createArena, workgroupCounts, type Arena } from "./webgpu-arena.ts";
import { compileKernels, type Kernels } from "./webgpu-kernels.ts";
import { Readback } from "./webgpu-readback.ts";
import { chooseKernels, featuresOf, usableVariants } from "./webgpu-variants.ts";


/** A device for the WGSL of the bundle; BackendError says what is missing. */
export async function openWebGpu(
  bundle: Bundle, adapter: GPUAdapter, batch: number, gpuKernels?: string,
): Promise<Device> {
  const { manifest } = bundle;
  if (!manifest.wgsl) throw new BackendError("the bundle was not compiled for WebGPU");
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  const halves = featuresForHalves(manifest, adapter, gpuKernels);
  const gpu = await adapter.requestDevice({
    requiredFeatures: [...featuresOf(usableVariants(manifest, adapter)), ...(halves ?? [])],
    requiredLimits: { maxBufferSize, maxStorageBufferBindingSize },
  }).catch((error: unknown) => {
    throw new BackendError("the GPU gives no device", { why: reasonOf(error) });
  });
  try {
    const chosen = await chooseKernels(bundle, gpu, adapter, batch, gpuKernels);
    const set = halves ? await kernelsForHalves(bundle, chosen) : chosen;
    const stored = halves ? withHalves(manifest) : manifest;
    const kernels = await compileKernels(gpu, stored, set);
    const arena = await createArena(gpu, stored, kernels, batch);
    return new WebGpuDevice(stored, gpu, adapterName(adapter), set.name, kernels, arena);
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
  private readonly readback: Readback;
  private readonly uniform: GPUBuffer;
  private readonly uniformBindings: GPUBindGroup;
  private readonly batchWord = new Uint32Array(UNIFORM_BYTES / 4);
  /** Programs that are compiled. */
  private readonly ready = new Set<string>();
  private fault: HearthError | undefined;
  private disposed = false;

  constructor(
    private readonly manifest: Manifest,
    private readonly gpu: GPUDevice,
    private readonly adapter: string,
    private readonly set: string,
    private readonly kernels: Kernels,
    private arena: Arena,
  ) {
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

  get info(): DeviceInfo {
    const scratch = this.kernels.kernels.flatMap(({ finish }) =>
      (finish ? [finish.scratch_bytes] : []));
    const kind = { backend: "webgpu", threads: 1, scratch } as const;
    const { batch } = this.arena.plan;
    return {
      ...kind, adapter: this.adapter, kernels: this.set, batchSize: batch,
      bytes: neededBytes(this.manifest, batch, kind),
    };
  }

  async resize(batch: number): Promise<void> {
    this.requireAlive();
    const old = this.arena;
    const arena = await createArena(
      this.gpu, this.manifest, this.kernels, batch, old.plan.batch);
    const encoder = this.gpu.createCommandEncoder();
    const bytes = align(this.manifest.state_bytes);
    if (bytes > 0) encoder.copyBufferToBuffer(old.buffer, 0, arena.buffer, 0, bytes);
    this.gpu.queue.submit([encoder.finish()]);
    old.buffer.destroy();
    this.arena = arena;
  }

  writeState(offset: number, bytes: Uint8Array): void {
    this.requireAlive();
    this.write(this.arena.buffer, offset, bytes);
  }

  async readState(span: Span): Promise<Bytes> {
    return (await this.copyState(span)).result;
  }

  async copyState({ offset, bytes }: Span): Promise<{ result: Promise<Bytes> }> {
    const staging = await this.take(bytes);
    this.submit(staging, (encoder) => {
      if (bytes > 0) encoder.copyBufferToBuffer(this.arena.buffer, offset, staging, 0, bytes);
    });
    return { result: this.read(staging, bytes) };
  }

  async start(
    program: string, batch: number, feeds: readonly Feed[], wanted: readonly number[],
  ): Promise<Started> {
    if (!this.ready.has(program)) await this.kernels.prepare(program);
    this.ready.add(program);
    const sizes = wanted.map((buffer) => bufferBytes(this.manifest, buffer, batch));
    const total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    const staging = await this.take(total);
    this.submit(staging, (encoder) => {
      const { buffer: arena } = this.arena;
      this.setBatch(batch);
      for (const { buffer, data } of feeds) this.write(arena, this.offset(program, buffer), data);
      this.encode(encoder, program, batch);
      let position = 0;
      wanted.forEach((buffer, i) => {
        const bytes = sizes[i] ?? 0;
        const from = this.offset(program, buffer);
        if (bytes > 0) encoder.copyBufferToBuffer(arena, from, staging, position, bytes);
        position += bytes;
      });
    });
    return { results: this.read(staging, total).then((bytes) => split(bytes, sizes)) };
  }

  dispose(): void {
    this.disposed = true;
    this.arena.buffer.destroy();
    this.gpu.destroy();
  }

  private async take(bytes: number): Promise<GPUBuffer> {
    this.requireAlive(); // before it waits for a buffer that a lost device never gives back
    return this.readback.take(bytes);
  }

  /** Submits what `record` encodes; gives the staging buffer back if it fails. */
  private submit(staging: GPUBuffer, record: (encoder: GPUCommandEncoder) => void): void {
    try {
      this.requireAlive();
      const encoder = this.gpu.createCommandEncoder();
      record(encoder);
      this.gpu.queue.submit([encoder.finish()]);
    } catch (error) {
      this.readback.release(staging);
      throw error;
    }
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

  private offset(program: string, buffer: number): number {
    return offsetOf(this.arena.plan, this.manifest, program, buffer);
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

function split(bytes: Bytes, sizes: readonly number[]): Bytes[] {
  let position = 0;
  return sizes.map((size) => bytes.slice(position, position += size));
}

/**
 * A device made of WebAssembly: one call per step, on one thread or on a team of them.
 *
 * Memory, in bytes (spec/manifest.md, "WebAssembly"): the scratch address at 1024, barrier words,
 * the address of every buffer from 2048 on, then scratch memory, then the arena.  A new plan only
 * grows the memory at its end, so the state never moves.
 */

import type { Bundle } from "./bundle.ts";
import type { Device, DeviceInfo, Started } from "./device.ts";
import { BackendError, InvalidInputError, reasonOf } from "./errors.ts";
import { defaultThreads } from "./features.ts";
import type { Feed } from "./inputs.ts";
import type { Manifest, WasmVariant } from "./manifest.ts";
import { neededBytes, PAGE_BYTES, TABLE, wasmLayout } from "./memory.ts";
import {
  bufferBytes, buffersOf, largestBatchWithin, offsetOf, outOfMemory, planMemory, type MemoryPlan,
} from "./plan.ts";
import type { Bytes } from "./safetensors.ts";
import type { Span } from "./state.ts";
import { ThreadChoice } from "./thread-choice.ts";
import { ThreadTeam, type ProgramFunction } from "./wasm-threads.ts";

const SCRATCH_WORD = 1024;
// A module may declare a smaller maximum than 4 GiB, and small devices refuse to reserve it.
const MAXIMUM_PAGES = [65536, 32768, 16384, 8192];
const MOST_BYTES = 65536 * PAGE_BYTES;

/** A device for one WASM variant of the bundle; BackendError if it does not start here. */
export async function openWasm(
  bundle: Bundle, variant: WasmVariant, batch: number, threads = defaultThreads(),
): Promise<Device> {
  const shared = variant.features.includes("threads");
  const count = shared ? threads : 1;
  const layout = new Layout(bundle.manifest, count);
  const plan = planMemory(bundle.manifest, batch);
  const bytes = await bundle.read(variant.file);
  const module = await WebAssembly.compile(bytes).catch((error: unknown) => {
    throw new BackendError(`this browser refuses ${variant.file}`, { why: reasonOf(error) });
  });
  const { memory, instance } = await instantiate(
    module, bundle.manifest, layout, plan, shared);
  const functions = programFunctions(bundle.manifest, instance, variant.file);
  const names = Object.keys(bundle.manifest.programs);
  const team = count > 1 ? await ThreadTeam.start(module, memory, names, count) : undefined;
  return new WasmDevice(bundle.manifest, variant, memory, functions, layout, plan, team);
}

/** Where things lie in the memory, for a number of threads. */
class Layout {
  readonly scratch: number;
  readonly arena: number;

  constructor(manifest: Manifest, readonly threads: number) {
    ({ scratch: this.scratch, arena: this.arena } = wasmLayout(manifest, threads));
  }

  pages(plan: MemoryPlan): number {
    return Math.ceil((this.arena + plan.arenaBytes) / PAGE_BYTES);
  }
}

interface Instantiated {
  memory: WebAssembly.Memory;
  instance: WebAssembly.Instance;
}

async function instantiate(
  module: WebAssembly.Module, manifest: Manifest, layout: Layout, plan: MemoryPlan,
  shared: boolean,
): Promise<Instantiated> {
  const initial = layout.pages(plan);
  let reason: unknown;
  for (const maximum of MAXIMUM_PAGES.filter((pages) => pages >= initial)) {
    try {
      const memory = new WebAssembly.Memory({ initial, maximum, shared });
      const instance = await WebAssembly.instantiate(module, { env: { memory } });
      return { memory, instance };
    } catch (error) {
      reason = error;
    }
  }
  if (reason === undefined || reason instanceof RangeError) {
    const most = Math.min(plan.arenaBytes / 2, MOST_BYTES - layout.arena);
    throw outOfMemory(plan, "WebAssembly", largestBatchWithin(manifest, most));
  }
  throw new BackendError("the WebAssembly module does not start", { why: reasonOf(reason) });
}

function programFunctions(
  manifest: Manifest, instance: WebAssembly.Instance, file: string,
): Map<string, ProgramFunction> {
  return new Map(Object.keys(manifest.programs).map((name) => {
    const exported = instance.exports[name];
    if (typeof exported === "function") return [name, exported as ProgramFunction];
    throw new BackendError(`${file} has no function "${name}"`);
  }));
}

class WasmDevice implements Device {
  info: DeviceInfo;
  private bytes: Uint8Array;
  private readonly choice = new ThreadChoice();

  constructor(
    private readonly manifest: Manifest,
    private readonly variant: WasmVariant,
    private readonly memory: WebAssembly.Memory,
    private readonly functions: ReadonlyMap<string, ProgramFunction>,
    private readonly layout: Layout,
    private plan: MemoryPlan,
    private readonly team: ThreadTeam | undefined,
  ) {
    this.bytes = new Uint8Array(memory.buffer);
    this.info = this.describe();
    this.writeTable();
  }

  resize(batch: number): Promise<void> {
    const plan = planMemory(this.manifest, batch);
    const missing = this.layout.pages(plan) - this.memory.buffer.byteLength / PAGE_BYTES;
    const isEnough = missing <= 0 || this.grow(missing);
    if (isEnough) this.plan = plan;
    // What the browser does give is taken, so that what is suggested fits.
    for (let less = missing >> 1; !isEnough && less > 0 && !this.grow(less);) less >>= 1;
    this.info = this.describe();
    this.bytes = new Uint8Array(this.memory.buffer); // growing detaches the old view
    this.writeTable();
    if (isEnough) return Promise.resolve();
    const most = largestBatchWithin(this.manifest, this.bytes.length - this.layout.arena);
    return Promise.reject(outOfMemory(plan, "this browser", most));
  }

  writeState(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, this.layout.arena + offset);
  }

  readState({ offset, bytes }: Span): Promise<Bytes> {
    return Promise.resolve(this.copy(offset, bytes));
  }

  copyState({ offset, bytes }: Span, spare?: Bytes): Promise<{ result: Promise<Bytes> }> {
    const into = spare?.length === bytes ? spare : undefined;
    return Promise.resolve({ result: Promise.resolve(this.copy(offset, bytes, into)) });
  }

  start(
    program: string, batch: number, feeds: readonly Feed[], wanted: readonly number[],
  ): Promise<Started> {
    const run = this.functions.get(program);
    if (!run) return Promise.reject(new InvalidInputError(`there is no program "${program}"`));
    for (const { buffer, data } of feeds) this.writeState(this.offset(program, buffer), data);
    const begin = performance.now();
    try {
      if (this.team && this.choice.takesTeam(program, batch)) this.team.run(program, run, batch);
      else run(batch, 0, 1);
    } catch (error) {
      return Promise.reject(new BackendError(`the program "${program}" broke off`, {
        why: reasonOf(error), remedy: "please report this with the bundle",
      }));
    }
    this.choice.note(program, batch, performance.now() - begin);
    const results = wanted.map((buffer) =>
      this.copy(this.offset(program, buffer), bufferBytes(this.manifest, buffer, batch)));
    return Promise.resolve({ results: Promise.resolve(results) });
  }

  dispose(): void {
    this.team?.dispose();
  }

  /** Asked for in every call, and so worked out once for each plan. */
  private describe(): DeviceInfo {
    const kind = { backend: "wasm", threads: this.layout.threads } as const;
    const { batch } = this.plan;
    return {
      ...kind, adapter: this.variant.features.join(", "), batchSize: batch,
      bytes: neededBytes(this.manifest, batch, kind),
    };
  }

  /** Makes the memory larger by so many pages, if the browser gives them. */
  private grow(pages: number): boolean {
    try {
      this.memory.grow(pages);
      return true;
    } catch {
      return false;
    }
  }

  private offset(program: string, buffer: number): number {
    return offsetOf(this.plan, this.manifest, program, buffer);
  }

  /** A view of shared memory must not leave this class. */
  private copy(offset: number, bytes: number, result: Bytes = new Uint8Array(bytes)): Bytes {
    const begin = this.layout.arena + offset;
    result.set(this.bytes.subarray(begin, begin + bytes));
    return result;
  }

  private writeTable(): void {
    const words = new Uint32Array(this.memory.buffer);
    words[SCRATCH_WORD / 4] = this.layout.scratch;
    for (const [name, program] of Object.entries(this.manifest.programs)) {
      for (const buffer of buffersOf(program)) {
        words[TABLE / 4 + buffer] = this.layout.arena + this.offset(name, buffer);
      }
    }
  }
}

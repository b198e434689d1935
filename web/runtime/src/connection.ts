/**
 * A trainer's engine, in a worker or on this thread: opened from a bundle, listened to, and opened
 * again if its worker has died.
 */

import { absoluteUrl, type BundleSource } from "./bundle.ts";
import { LocalChannel, WorkerChannel, type Channel } from "./channel.ts";
import type { Comparison } from "./contest.ts";
import type { DeviceInfo } from "./device.ts";
import { BackendError } from "./errors.ts";
import type { EngineOptions } from "./open.ts";
import type { CallKind, Calls, Loaded } from "./protocol.ts";
import type { EngineEvent, Rescue } from "./session.ts";

export interface ConnectionOptions extends EngineOptions {
  /** Called with every warning, such as a backend that is not used and why. */
  onWarning?: (message: string) => void;
  /** Called when another device takes over, or memory for a larger batch was made. */
  onDevice?: (device: DeviceInfo) => void;
  /** `false` computes on this thread: for Node, and inside a worker of the page. */
  worker?: boolean;
  /** Where hearth.js can be fetched, if a bundler has made it part of another script. */
  workerUrl?: string | URL;
}

/** A device that failed and the one that goes on. */
export interface Rescued {
  readonly device: DeviceInfo;
  readonly rescue: Rescue;
}

export class Connection {
  readonly warnings: string[] = [];
  /** Where the bundle came from; undefined if it is not under a URL. */
  readonly address: string | undefined;
  comparison: Comparison | undefined;
  private current: DeviceInfo | undefined;
  private rescues: Rescued[] = [];
  private channel: Channel;
  private readonly connect: () => Channel;
  private readonly listeners: {
    onWarning: ConnectionOptions["onWarning"]; onDevice: ConnectionOptions["onDevice"];
  };
  private readonly engineOptions: EngineOptions;

  private constructor(
    private readonly source: string | URL | BundleSource,
    options: ConnectionOptions,
  ) {
    const { worker = true, workerUrl, onWarning, onDevice, ...engineOptions } = options;
    this.engineOptions = engineOptions;
    this.listeners = { onWarning, onDevice };
    this.address = typeof source === "string" || source instanceof URL
      ? absoluteUrl(source) : undefined;
    const notify = (event: EngineEvent): void => { this.hear(event); };
    this.connect = () => (this.address !== undefined && worker
      ? new WorkerChannel(workerUrl, notify) : new LocalChannel(notify));
    this.channel = this.connect();
  }

  /** Loads a bundle; raises what `Trainer.load` raises. */
  static async open(
    source: string | URL | BundleSource, options: ConnectionOptions,
  ): Promise<{ connection: Connection; loaded: Loaded }> {
    const connection = new Connection(source, options);
    return { connection, loaded: await connection.load() };
  }

  /** What computes. */
  get device(): DeviceInfo {
    if (this.current) return this.current;
    throw new BackendError("there is no bundle loaded");
  }

  /** Why the worker has died, if it has. */
  get death(): BackendError | undefined {
    return this.channel.death;
  }

  call<K extends CallKind>(kind: K, takes: Calls[K]["takes"]): Promise<Calls[K]["gives"]> {
    return this.channel.call(kind, takes);
  }

  /** Loads the bundle anew in another worker: its state is that of the bundle. */
  async reopen(): Promise<Loaded> {
    const reason = this.death?.message ?? "the worker was replaced";
    this.channel.close();
    this.channel = this.connect();
    const loaded = await this.load();
    this.warn(`${reason}: another worker takes over`);
    return loaded;
  }

  /** The devices that failed since it was asked last, and what goes on. */
  takeRescues(): readonly Rescued[] {
    const found = this.rescues;
    this.rescues = [];
    return found;
  }

  close(): void {
    this.channel.close();
  }

  private async load(): Promise<Loaded> {
    try {
      const source = this.address ?? (this.source as BundleSource);
      const loaded = await this.channel.call("load", { source, options: this.engineOptions });
      this.current = loaded.device;
      return loaded;
    } catch (error) {
      this.channel.close();
      throw error;
    }
  }

  private hear(event: EngineEvent): void {
    if (event.kind === "warning") {
      this.warn(event.message);
      return;
    }
    if (!this.current) return;
    const { device, comparison, rescue } = event;
    this.current = device;
    this.comparison = comparison ?? this.comparison;
    if (rescue) this.rescues.push({ device, rescue });
    this.listeners.onDevice?.(device);
  }

  warn(message: string): void {
    this.warnings.push(message);
    this.listeners.onWarning?.(message);
  }
}

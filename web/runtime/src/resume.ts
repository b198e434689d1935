/** Opens the trainer of a saved run. */

import type { BundleSource } from "./bundle.ts";
import type { ConnectionOptions } from "./connection.ts";
import { BundleFormatError } from "./errors.ts";
import { readNewest, type SaveOptions } from "./saved-runs.ts";
import { openStore } from "./store.ts";
import { loadTools } from "./tools.ts";
import type { Trainer } from "./trainer.ts";

export interface ResumeOptions extends ConnectionOptions, SaveOptions {
  /** The bundle, where it is not under the URL any more that the run was begun with. */
  source?: string | URL | BundleSource;
}

/** The trainer of the newest checkpoint that it can continue. */
export async function resume(
  name: string, { source, store, ...options }: ResumeOptions,
  load: (source: string | URL | BundleSource, options: ConnectionOptions) => Promise<Trainer>,
): Promise<Trainer> {
  const files = store ?? await openStore();
  const { readRecord } = await loadTools();
  return readNewest(files, name, async (bytes) => {
    const origin = source ?? readRecord(bytes)?.bundle;
    if (origin === undefined) {
      throw new BundleFormatError("the checkpoint does not say which bundle it belongs to", {
        remedy: "give the bundle as `source`",
      });
    }
    const trainer = await load(origin, options);
    try {
      await trainer.loadCheckpoint(bytes);
    } catch (error) {
      await trainer.dispose();
      throw error;
    }
    return trainer;
  }, options.onWarning ?? (() => undefined));
}

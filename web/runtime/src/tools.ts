/**
 * hearth-tools.js: what not every page needs, in a file beside hearth.js that is fetched when it is
 * first used, in the page or in the worker.
 */

import { BundleFormatError, reasonOf } from "./errors.ts";
import * as shared from "./shared.ts";
import type * as Tools from "./tools/index.ts";

/** The tools; BundleFormatError where the file cannot be had. */
export async function loadTools(): Promise<typeof Tools> {
  const tools = await import("./tools/index.ts").catch((error: unknown) => {
    throw new BundleFormatError("hearth-tools.js, beside hearth.js, cannot be loaded", {
      why: reasonOf(error), remedy: "serve all files of the bundle",
    });
  });
  tools.bind(shared);
  return tools;
}

/** Begins to load them: who saves a run, or takes a step back, should not need the network then. */
export function prepareTools(): void {
  loadTools().catch(() => undefined); // who needs them hears of it
}

/** Weights and whole runs as files: what a person takes home, and brings back. */

import type { Trainer } from "../../runtime/src/index.ts";

export type FileKind = "safetensors" | "json" | "checkpoint";

/** Weights or a whole run, as a file for PyTorch. */
export async function exported(
  trainer: Trainer, kind: FileKind,
): Promise<{ name: string; bytes: Uint8Array }> {
  const bytes = kind === "checkpoint" ? await trainer.exportCheckpoint()
    : await trainer.exportWeights(kind);
  const model = trainer.manifest.model.toLowerCase().replace(/[^a-z0-9]+/g, "-") || "model";
  const suffix = kind === "checkpoint" ? "checkpoint.safetensors" : kind;
  return { name: `${model}.${suffix}`, bytes };
}

/** Takes weights, or a run that goes on, from a file; says which. */
export async function imported(trainer: Trainer, file: Blob): Promise<string> {
  const bytes = await file.arrayBuffer();
  try {
    await trainer.loadCheckpoint(bytes);
    return `continued a checkpoint at step ${trainer.step.toLocaleString("en")}`;
  } catch (reason) {
    if (!String(reason).includes("not a Hearth checkpoint")) throw reason;
    await trainer.loadWeights(bytes);
    return "loaded weights";
  }
}

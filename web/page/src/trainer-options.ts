/** What the address of the page says of how to compute: ?backend=auto|webgpu|wasm, ?threads=N, ?seed=N. */

import type { TrainerOptions } from "../../runtime/src/index.ts";

/** What training, evaluation and inspection may take together. */
export const MEMORY_BYTES = 256 * 2 ** 20;

export function trainerOptions(query: string): TrainerOptions {
  const given = new URLSearchParams(query);
  const numbers = ["threads", "seed"].flatMap((name) => {
    const value = given.get(name);
    return value === null ? [] : [[name, Number(value)] as const];
  });
  const backend = (given.get("backend") ?? "auto") as NonNullable<TrainerOptions["backend"]>;
  return { backend, memoryBytes: MEMORY_BYTES, ...Object.fromEntries(numbers) };
}

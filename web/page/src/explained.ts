/** An error as a person reads it who did not write the model. */

import { bytes } from "./numbers.ts";
import { MEMORY_BYTES } from "./trainer-options.ts";

export function explained(error: unknown): string {
  const { suggestedBatchSize: fits } = Object(error) as { suggestedBatchSize?: number };
  if (fits) {
    return `That many samples at a time do not fit into the ${bytes(MEMORY_BYTES)} of memory that this `
      + `page takes. Choose a batch size of ${String(fits)} or less.`;
  }
  return error instanceof Error ? error.message : String(error);
}

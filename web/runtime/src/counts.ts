/** Metrics with dimensions: counts, which are summed over batches where numbers are averaged. */

import type { Result } from "./executor.ts";
import { shapeAt } from "./dims.ts";
import type { Output } from "./manifest.ts";

export interface Count {
  shape: readonly number[];
  /** Row by row; in double precision, so that whole numbers add up exactly. */
  values: Float64Array;
}

export type Counts = Record<string, Count>;

export function isCount({ role, shape }: Output): boolean {
  return role === "metric" && shape.length > 0;
}

/** The counts among the outputs of a batch. */
export function countsOf(results: readonly Result[]): Counts {
  return Object.fromEntries(results.filter(({ output }) => isCount(output)).map(
    ({ output, values }) => [output.name, {
      shape: shapeAt(output.shape, 1), values: Float64Array.from(values, Number),
    }]));
}

/** Adds the counts of a batch to a total, in place. */
export function addCounts(total: Counts, counts: Counts): void {
  for (const [name, { shape, values }] of Object.entries(counts)) {
    const sum = total[name]?.values ?? new Float64Array(values.length);
    total[name] = { shape, values: sum.map((value, i) => value + (values[i] ?? NaN)) };
  }
}

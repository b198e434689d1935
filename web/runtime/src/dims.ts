/**
 * Numbers that depend on the batch size: an integer, or coefficients [c0, c1, …] of a polynomial
 * in B (spec/manifest.md).
 */

export type Extent = number | readonly number[];

/** The value of an extent for one batch size. */
export function evaluate(extent: Extent, batch: number): number {
  if (typeof extent === "number") return extent;
  return extent.reduceRight((sum, coefficient) => sum * batch + coefficient, 0);
}

/** Whether the extent is the same for every batch size. */
export function isStatic(extent: Extent): boolean {
  return typeof extent === "number" || extent.slice(1).every((c) => c === 0);
}

/** The number of elements of a shape for one batch size. */
export function elements(shape: readonly Extent[], batch: number): number {
  return shape.reduce<number>((product, extent) => product * evaluate(extent, batch), 1);
}

/** The shape for one batch size. */
export function shapeAt(shape: readonly Extent[], batch: number): number[] {
  return shape.map((extent) => evaluate(extent, batch));
}

/** The shape as people write it: `[B, 1, 28, 28]`. */
export function formatShape(shape: readonly Extent[]): string {
  return `[${shape.map(formatExtent).join(", ")}]`;
}

function formatExtent(extent: Extent): string {
  if (typeof extent === "number") return String(extent);
  const terms = extent.map((coefficient, power) => {
    if (coefficient === 0) return "";
    const base = ["", "B"][power] ?? `B^${String(power)}`;
    if (power === 0) return String(coefficient);
    return coefficient === 1 ? base : `${String(coefficient)}*${base}`;
  });
  return terms.filter(Boolean).reverse().join(" + ").replaceAll("+ -", "- ") || "0";
}

/**
 * The batch size for which `count(B)` is `wanted`, or 0 where there is none; `count` grows with B.
 */
export function solveBatch(count: (batch: number) => number, wanted: number): number {
  const batch = largestBatch((b) => count(b) <= wanted);
  return batch > 0 && count(batch) === wanted ? batch : 0;
}

/** The largest batch size from 1 to 2^31 that `fits`, or 0; what fits fits for smaller ones too. */
export function largestBatch(fits: (batch: number) => boolean): number {
  let [low, high] = [0, 1];
  while (high <= 2 ** 30 && fits(high)) [low, high] = [high, high * 2];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Random orders and splits of samples that depend on nothing but their seed.
 *
 * These integers choose samples; random numbers inside a model are Philox in the compiled step.
 */

import { InvalidInputError } from "./errors.ts";

/** The numbers below `count` in random order (Fisher and Yates), the same for the same seeds. */
export function permutation(count: number, ...seeds: readonly number[]): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const draw = generator(seeds);
  for (let i = count - 1; i > 0; i--) {
    const j = below(i + 1, draw);
    [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
  }
  return order;
}

/**
 * Indices in two or more parts, such as `[0.8, 0.2]` of all; with `labels`, of every class.
 *
 * The shares add up to 1 at most; each part is in ascending order.  Raises InvalidInputError.
 */
export function split(
  count: number, shares: readonly number[],
  { seed = 0, labels }: { seed?: number; labels?: ArrayLike<number> } = {},
): Uint32Array[] {
  const sum = shares.reduce((a, b) => a + b, 0);
  if (shares.some((share) => !(share > 0)) || !(sum <= 1 + 1e-9)) {
    throw new InvalidInputError(`the shares ${shares.join(", ")} of a split are not positive \
numbers with a sum of 1 at most`);
  }
  if (labels && labels.length !== count) {
    throw new InvalidInputError(
      `${String(labels.length)} labels are given for ${String(count)} samples`);
  }
  const parts: number[][] = shares.map(() => []);
  for (const [stratum, members] of strata(count, labels).entries()) {
    const order = permutation(members.length, seed, stratum);
    let [from, share] = [0, 0];
    shares.forEach((part, i) => {
      const to = Math.round((share += part) * members.length);
      for (const index of order.subarray(from, to)) parts[i]?.push(members[index] ?? 0);
      from = to;
    });
  }
  return parts.map((part) => Uint32Array.from(part).sort());
}

/**
 * `count` indices, each drawn with a probability in proportion to its weight, with replacement.
 *
 * Raises InvalidInputError for weights that are negative, not finite, or all zero.
 */
export function weightedDraws(
  weights: ArrayLike<number>, count: number, ...seeds: readonly number[]
): Uint32Array {
  const sums = new Float64Array(weights.length);
  let [sum, last] = [0, 0];
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] ?? NaN;
    if (!(weight >= 0 && weight < Infinity)) {
      throw new InvalidInputError(
        `weights[${String(i)}] is ${String(weight)}, expected a number from 0`);
    }
    sums[i] = sum += weight;
    if (weight > 0) last = i;
  }
  if (sum === 0) throw new InvalidInputError("all weights are 0: no sample can be drawn");
  const draw = generator(seeds);
  return Uint32Array.from({ length: count }, () => {
    const place = (draw() * 2 ** 21 + (draw() >>> 11)) / 2 ** 53 * sum; // 53 bits, below 1
    let [low, high] = [0, last];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (place < (sums[middle] ?? sum)) high = middle;
      else low = middle + 1;
    }
    return low;
  });
}

/** Weights for DataLoader by which every class is drawn as often as any other. */
export function balancedWeights(labels: ArrayLike<number>): Float64Array {
  const counts = new Map<number, number>();
  for (const label of Array.from(labels)) counts.set(label, (counts.get(label) ?? 0) + 1);
  return Float64Array.from(labels, (label) => 1 / (counts.get(label) ?? 1));
}

/** For each class the number by which its loss counts, so that all classes weigh the same. */
export function classWeights(labels: ArrayLike<number>, classes: number): Float32Array {
  const counts = new Float64Array(classes);
  for (const label of Array.from(labels)) {
    if (!(Number.isInteger(label) && label >= 0 && label < classes)) {
      throw new InvalidInputError(
        `the label ${String(label)} is none of ${String(classes)} classes`);
    }
    counts[label] = (counts[label] ?? 0) + 1;
  }
  const present = counts.filter((n) => n > 0).length;
  return Float32Array.from(counts, (n) => (n > 0 ? labels.length / (present * n) : 0));
}

/** The samples of each class, or all as one. */
function strata(count: number, labels: ArrayLike<number> | undefined): number[][] {
  const found = new Map<number, number[]>();
  for (let i = 0; i < count; i++) {
    const label = labels?.[i] ?? 0;
    const members = found.get(label);
    if (members) members.push(i);
    else found.set(label, [i]);
  }
  return [...found].sort(([a], [b]) => a - b).map(([, members]) => members);
}

/** A whole number below `count`, each as likely as any other. */
function below(count: number, draw: () => number): number {
  const whole = 2 ** 32 - (2 ** 32 % count); // beyond, the lowest numbers would come once more
  for (;;) {
    const drawn = draw();
    if (drawn < whole) return drawn % count;
  }
}

/** SplitMix of 32 bits (G. Steele et al. 2014, Fast Splittable Pseudorandom Number Generators). */
function generator(seeds: readonly number[]): () => number {
  let state = 0;
  const draw = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let z = state ^ (state >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  for (const seed of seeds) {
    state = draw() ^ seed ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b);
  }
  return draw;
}

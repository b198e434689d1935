/**
 * Curves of any length in bounded memory: values fall into bins of equal numbers of steps, and
 * when there are too many bins, neighbours become one.
 *
 * A bin keeps mean, least and largest value, so that no spike is lost; bins are anchored to step
 * numbers, so that a full one never changes until it is merged.
 */

/** What uPlot draws: x, then columns; null where a bin is empty. */
export interface Columns {
  x: number[];
  mean: (number | null)[];
  least: (number | null)[];
  largest: (number | null)[];
}

interface Bin {
  count: number;
  sum: number;
  least: number;
  largest: number;
}

const EMPTY: Bin = { count: 0, sum: 0, least: Infinity, largest: -Infinity };

export class BinnedCurve {
  private bins: Bin[] = [];
  private steps = 1; // of one bin

  constructor(private readonly most = 1024) {}

  get isEmpty(): boolean {
    return this.bins.length === 0;
  }

  clear(): void {
    this.bins = [];
    this.steps = 1;
  }

  push(step: number, value: number): void {
    if (!Number.isFinite(value)) return;
    while (Math.floor(step / this.steps) >= this.most) this.coarsen();
    const at = Math.floor(step / this.steps);
    while (this.bins.length <= at) this.bins.push(EMPTY);
    this.bins[at] = merge(this.bins[at] ?? EMPTY, {
      count: 1, sum: value, least: value, largest: value,
    });
  }

  /** Forgets everything after a step: a run went back to it. */
  truncate(step: number): void {
    this.bins.length = Math.min(this.bins.length, Math.floor(step / this.steps) + 1);
  }

  columns(): Columns {
    const found: Columns = { x: [], mean: [], least: [], largest: [] };
    this.bins.forEach(({ count, sum, least, largest }, i) => {
      if (count === 0) return;
      found.x.push(this.place(i));
      found.mean.push(sum / count);
      found.least.push(least);
      found.largest.push(largest);
    });
    return found;
  }

  /** Where its first and its last value are drawn. */
  extent(): [number, number] | undefined {
    const first = this.bins.findIndex(({ count }) => count > 0);
    return first < 0 ? undefined : [this.place(first), this.place(this.bins.length - 1)];
  }

  /** First and last mean: what a caption says. */
  ends(): { first: number; last: number } | undefined {
    const filled = this.bins.filter(({ count }) => count > 0);
    const [first, last] = [filled[0], filled.at(-1)];
    return first && last ? { first: first.sum / first.count, last: last.sum / last.count } : undefined;
  }

  /** The middle of a bin's steps. */
  private place(bin: number): number {
    return (bin + 0.5) * this.steps - 0.5;
  }

  private coarsen(): void {
    const pairs = Array.from({ length: Math.ceil(this.bins.length / 2) }, (_, i) =>
      merge(this.bins[2 * i] ?? EMPTY, this.bins[2 * i + 1] ?? EMPTY));
    this.bins = pairs;
    this.steps *= 2;
  }
}

function merge(a: Bin, b: Bin): Bin {
  return {
    count: a.count + b.count, sum: a.sum + b.sum,
    least: Math.min(a.least, b.least), largest: Math.max(a.largest, b.largest),
  };
}

/** An exponential average with its start corrected, as Adam's moments are. */
export class RunningMean {
  private average = 0;
  private correction = 0;

  constructor(private readonly weight = 0.9) {}

  /** The mean so far. */
  get value(): number | undefined {
    return this.correction > 0 ? this.average / this.correction : undefined;
  }

  push(value: number): void {
    if (!Number.isFinite(value)) return;
    this.average = this.weight * this.average + (1 - this.weight) * value;
    this.correction = this.weight * this.correction + (1 - this.weight);
  }

  clear(): void {
    this.average = this.correction = 0;
  }
}

/** The running means of values; null where a value is missing. */
export function smoothed(values: readonly (number | null)[]): (number | null)[] {
  const mean = new RunningMean();
  return values.map((value) => {
    if (value === null) return null;
    mean.push(value);
    return mean.value ?? null;
  });
}
